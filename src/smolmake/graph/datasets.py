"""Where a dataset lies, as a part of a step's identity."""

from __future__ import annotations

import contextlib
import platform
from functools import cache
from importlib import metadata
from typing import Any

from smolmake.execution.content_hash import content_digest
from smolmake.execution.step import Step, Steps
from smolmake.recipe.sources import Files

TOY_SEED = 0
# The toy's English is taken from Python and from what these say of themselves, so their versions identify it.
TOY_PACKAGES = "accelerate datasets huggingface_hub lm_eval numpy pandas pydantic requests safetensors transformers trl"
HUB_KEYS = ("hub", "config", "split", "files", "revision", "format")
PLACE_KEYS = (*HUB_KEYS, "path", "toy")


def place(steps: Steps, files: Files, inputs: dict[str, Step], role: str) -> dict[str, Any]:
    """Where a dataset lies, for a spec; a toy file adds the step that writes it to `inputs`."""
    if files.toy is not None:
        inputs[role] = steps.add("toyfiles", "toy", _toy_spec(), {}, "data")
        return {"toy": files.toy, "format": files.format}
    if files.hub is not None:
        return {key: getattr(files, key) for key in HUB_KEYS}
    assert files.path is not None
    return {"path": files.path, "format": files.format, "content": content_digest(files.path, steps.root)}


@cache
def _toy_spec() -> dict[str, Any]:
    versions = {}
    for name in TOY_PACKAGES.split():
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"seed": TOY_SEED, "python": platform.python_version(), "packages": versions}
