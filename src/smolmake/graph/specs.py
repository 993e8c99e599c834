"""What each kind of step is made from: one frozen model a kind, typed from the recipe down to the kernel.

A step's identity is the digest of its spec in canonical JSON, of its inputs' ids and of the code that computes it. How
it runs (devices, threads, folders) is in `runs` models beside them and decides no result.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """Base of all specs: frozen, and without room for keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")
