"""What each kind of step is made from: one frozen model a kind, typed from the recipe down to the kernel.

A step's identity is the digest of its `Spec` in canonical JSON, of its inputs' ids and of the code that computes it.
How it runs (devices, threads, folders) is in a `Run` model beside it and decides no result.
"""

from __future__ import annotations

from typing import Literal

from smolmake.execution.step import Run, Spec
from smolmake.recipe.runtime import Layout
from smolmake.recipe.sources import Argument


class DeviceRun(Run):
    """A step that computes on the devices of a layout."""

    layout: Layout = Layout()
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def nodes(self) -> int:
        return self.layout.nodes

    @property
    def gpus_per_node(self) -> int:
        return self.layout.gpus_per_node

    @property
    def launcher(self) -> str:
        """What starts the step's script on its devices, as the beginning of a shell command."""
        return self.layout.launcher(self.threads)


# Data: GeneratedSpec and GeneratedRun.


class GeneratedSpec(Spec):
    """A program of the user's: the digests of its files by name, and what else its output depends on."""

    code: dict[str, str]
    arguments: dict[str, Argument | list[Argument]]
    reads: dict[str, str]
    packages: dict[str, str]
    python: str | None = None


class GeneratedRun(Run):
    """Where the program lies, and the files, folders or globs that the recipe reads of its output."""

    script: str
    expected: list[str]


# Pretraining: SegmentSpec and SegmentRun, PreflightSpec and PreflightRun.


__all__ = ["DeviceRun", "GeneratedRun", "GeneratedSpec", "Run", "Spec"]
