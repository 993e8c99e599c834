"""Results that lie under another name than the recipe has for them today: after a stage or the recipe was renamed.

A name is no part of what a result depends on, so a step of the same kind and id is the same step. While a run goes on
its steps keep the folders that it began with, although another run may finish the same step under another name.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

from smolmake.execution.manifest import MANIFEST, RECORD
from smolmake.execution.step import Steps

BEGUN = "begun.json"  # in results/latest/<recipe>: the steps (kind/name: key) of the run that was begun last
RUN = "SMOLMAKE_RUN"  # the environment variable by which a run's jobs know that they are of this recipe's


def other_names(steps: Steps, recipe: str) -> dict[str, str]:
    """For steps that are not finished under their own name: under which other one they are, or were begun.

    Returns:
        `Step.named_key` -> the name in the folder's name. Folders that other steps of the recipe are called are not
        taken, and none is taken twice.
    """
    results, found, taken = steps.root / "results", dict[str, str](), {step.named_key for step in steps.all.values()}
    begun = _begun(results / "latest" / recipe / BEGUN) if os.environ.get(RUN) == recipe else {}
    folders = {kind: _names_by_id(f"{results}/{kind}") for kind in {step.kind for step in steps.all.values()}}
    for step in steps.all.values():
        names = [name for name in folders[step.kind].get(step.id, ()) if f"{step.kind}/{name}-{step.id}" not in taken]
        if not names or begun.get(step.label) == step.named_key:
            continue
        if os.path.exists(f"{results}/{step.named_key}/{MANIFEST}"):
            continue
        for file in (MANIFEST, RECORD):
            have = [name for name in names if os.path.exists(f"{results}/{step.kind}/{name}-{step.id}/{file}")]
            if have or os.path.exists(f"{results}/{step.named_key}/{file}"):
                break
        if have:
            found[step.named_key] = have[0]
            taken.add(f"{step.kind}/{have[0]}-{step.id}")
    return found


def _begun(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _names_by_id(folder: str) -> dict[str, list[str]]:
    """The names of the folders of a kind by id, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    if os.path.isdir(folder):
        for entry in sorted(os.listdir(folder)):
            name, _, identity = entry.rpartition("-")
            found[identity].append(name)
    return found
