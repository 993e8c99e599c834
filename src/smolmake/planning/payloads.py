"""Finished steps that must run again, since a step that is to run would read files of theirs that are not there.

A milestone that was asked for after its segment was trained was never kept; other files were lost. What is in remote
storage is there, and what was removed on purpose (`smolmake gc --states`) is told by `optimizer_states`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from smolmake.execution.manifest import MANIFEST, removed_files
from smolmake.execution.remote_storage import REMOTE
from smolmake.execution.step import Step, Steps
from smolmake.planning.history import last_saved

Payloads = Callable[[Step], tuple[list[str], list[str]]]
NOT_KEPT = "milestones that were not kept when their segments were trained"


def steps_to_repeat(steps: Steps) -> dict[str, tuple[str, ...]]:
    """The keys of finished steps that must run again, each with the reasons, as the plan tells them."""
    finished = {step.key for step in steps.all.values() if os.path.exists(f"{steps.root}/{step.manifest}")}
    payload: Payloads = cache(lambda step: _payload(steps.root / "results" / step.key))
    found: dict[str, tuple[str, ...]] = {}
    for step in reversed(steps.all.values()):  # what reads comes before what is read
        if step.kind == "report" or (step.key in finished and step.key not in found):
            continue  # the report tells what is there
        for role, other in step.inputs.items():
            milestone = getattr(step.spec, "milestone", None) if role == "checkpoint" else None
            if other.key in finished and (reasons := _gone(other, milestone, payload)):
                found[other.key] = tuple(dict.fromkeys((*found.get(other.key, ()), *reasons)))
    return found


def _gone(step: Step, milestone: int | None, payload: Payloads) -> list[str]:
    """Why a finished step cannot be read, if it cannot: by its own files, and those that a mixture leads to."""
    names, lost = payload(step)
    reasons = [f"{step.label}: {name} is gone" for name in lost[:1]]
    if milestone is not None and not any(name.startswith(f"milestones/step-{milestone}/") for name in names):
        reasons.append(NOT_KEPT)
    for other in step.inputs.values() if step.kind == "mixture" else ():
        reasons += _gone(other, None, payload)
    return reasons


def _payload(folder: Path) -> tuple[list[str], list[str]]:
    """The payload of a finished step, and which files of it are neither there nor elsewhere."""
    names = list(_json(folder / MANIFEST).get("payload", {}))
    missing = {name for name in [*names, MANIFEST] if not (folder / name).exists()}
    if missing:
        missing -= removed_files(folder) | set(_json(folder / REMOTE).get("files", []))
    return names, sorted(missing)


def passed_milestones(steps: Steps, running: Iterable[Step]) -> Iterator[str]:
    """A line for each training under way that a step to run wants a milestone of which it has passed."""
    wanted: dict[str, list[int]] = {}
    for step in running:
        if (milestone := getattr(step.spec, "milestone", None)) is not None:
            wanted.setdefault(step.inputs["checkpoint"].key, []).append(milestone)
    for key, milestones in wanted.items():
        folder = steps.root / "results" / key
        saved = last_saved(folder / "recovery") if not (folder / MANIFEST).exists() else None
        passed = [
            at for at in sorted({*milestones}) if at <= (saved or 0) and not (folder / f"milestones/step-{at}").exists()
        ]
        if passed:
            yield (
                f"{key} goes on from step {saved:,} and has passed milestones that are asked for only now"
                f" ({', '.join(f'{at:,}' for at in passed)}): to keep them it must be trained again once it has ended"
            )


def _json(file: Path) -> dict[str, Any]:
    """What a file says; nothing if it cannot be read, which whoever needs it tells."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
