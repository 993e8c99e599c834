"""Optimizer states of finished segments: which are spare, and who would miss one that was removed.

Two thirds of a segment's checkpoint are the optimizer's state, which only a segment that follows reads. It is spare
once all segments that follow, in all recipes, are finished. The last segment of a chain keeps its own: a run may be
made longer. What was removed is noted in removed.json beside the manifest, so that the checkpoint still counts as
whole.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path

from smolmake.errors import UserError
from smolmake.execution.manifest import MANIFEST, REMOVED, removed_files
from smolmake.execution.remote_storage import has_remote
from smolmake.execution.step import Step, Steps
from smolmake.graph.specs.pretrain import SegmentSpec

OPTIMIZER_STATE = "checkpoint/optimizer.safetensors"
TRASH = ".trash"  # in results/: what gc took away


def spare_states(recipes: Iterable[Steps], root: Path) -> list[Path]:
    """The optimizer states of finished segments all of whose following segments are finished, if there are any."""
    following: dict[str, set[str]] = {}
    for steps in recipes:
        for step in steps.of_kind("segment"):
            parent = step.inputs.get("parent")
            if parent is not None and parent.kind == "segment":
                following.setdefault(parent.key, set()).add(step.key)
    results = root / "results"
    spare = [
        results / key / OPTIMIZER_STATE
        for key, children in following.items()
        if all((results / other / MANIFEST).exists() for other in (key, *children))
    ]
    return sorted(file for file in spare if file.is_file())


def check_states(steps: Steps, repeated: Container[str] = ()) -> None:
    """Raise UserError if a segment that is to run, or to run again, follows one whose optimizer state was removed."""
    for step in steps.of_kind("segment"):
        parent = step.inputs.get("parent")
        if parent is None or step.spec_as(SegmentSpec).fresh_optimizer:
            continue
        if step.key not in repeated and (steps.root / step.manifest).exists():
            continue
        folder = steps.root / "results" / parent.key
        if (
            (folder / MANIFEST).exists()
            and not (folder / OPTIMIZER_STATE).exists()
            and OPTIMIZER_STATE in removed_files(folder)
        ):
            raise _missed(step, folder)


def _missed(step: Step, folder: Path) -> UserError:
    again = f"bring the file back from a copy, or delete {folder / MANIFEST}: that segment is then trained again"
    trash = folder.parents[1] / TRASH / folder.parent.name / folder.name / OPTIMIZER_STATE
    if trash.is_file():
        again = f"it is still in the trash: mv {trash} {folder / OPTIMIZER_STATE}"
    elif has_remote(folder, OPTIMIZER_STATE):
        again = f"delete {folder / REMOVED}: the file is then fetched from remote storage"
    return UserError(
        f"{step.label} is to run and goes on from an optimizer state that was removed (smolmake gc --states)",
        file=folder / OPTIMIZER_STATE, remedy=again,
    )  # fmt: skip
