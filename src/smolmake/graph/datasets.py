"""Where a dataset lies, as a part of a step's identity, and the steps that write what a program generates."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from smolmake.execution.content_hash import code_digests, content_digest, listing_digest
from smolmake.execution.step import Step, Steps
from smolmake.graph.specs.data import (
    DatasetSpec,
    FileDataset,
    GeneratedDataset,
    GeneratedRun,
    GeneratedSpec,
    HubDataset,
    PathDataset,
)
from smolmake.recipe.formats import list_data
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Files, Generated
from smolmake.recipe.validate import all_files

FILES_KEYS = ("hub", "config", "split", "files", "revision", "format", "path", "generated")


def add_generated(steps: Steps, recipe: Recipe) -> None:
    """The programs whose output the recipe reads, each with the files that must come of it."""
    wanted: dict[str, list[str]] = {}
    for _, files in all_files(recipe):
        if files.generated is not None:
            name, _, inside = files.generated.partition("/")
            wanted.setdefault(name, []).append(inside)
    for name, patterns in wanted.items():
        generated, key = recipe.generated[name], f"generated.{name}"
        spec = GeneratedSpec(  # where the program lies is no part of it
            code=code_digests(steps.root / generated.script),
            arguments=generated.arguments,
            reads={
                os.path.relpath(steps.root / pattern, steps.root): content_digest(pattern, steps.root)
                for pattern in generated.reads
            },
            packages={package: metadata.version(package) for package in generated.packages},
            python=platform.python_version() if generated.python else None,
        )
        run = GeneratedRun(script=generated.script, expected=sorted(set(patterns)))
        steps.add("generated", name, spec, {}, "data", tuple(f"{key}.{part}" for part in Generated.model_fields), run)


def dataset_spec(steps: Steps, files: Files, inputs: dict[str, Step], role: str) -> DatasetSpec:
    """Where a dataset lies; what a program generates adds its step to `inputs`."""
    if files.hub is None:
        return files_spec(steps, files, inputs, role)
    return HubDataset(hub=files.hub, config=files.config, split=files.split, files=files.files, revision=files.revision)


def files_spec(steps: Steps, files: Files, inputs: dict[str, Step], role: str) -> FileDataset:
    """As `dataset_spec`, for what is never on the hub."""
    if files.generated is not None:
        name, _, inside = files.generated.partition("/")
        inputs[role] = next(step for step in steps.of_kind("generated") if step.name == name)
        return GeneratedDataset(generated=inside, format=files.format)
    assert files.path is not None
    content = listing_digest(list_data(files.path, files.format, steps.root), steps.root)
    return PathDataset(path=files.path, format=files.format, content=content)
