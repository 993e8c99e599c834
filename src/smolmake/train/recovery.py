"""Recovery checkpoints inside a step's own folder: written beside and renamed, verified on load, the last two kept."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from smolmake.files import file_digest, sync_folder

KEPT = 2


def save_recovery(folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Save the state from which step number `step` is the next to do."""
    place = folder / f"step-{step:09d}"
    beside = folder / f".{place.name}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside / "state.safetensors")
    state = {"step": step, "sha256": file_digest(beside / "state.safetensors")}
    (beside / "state.json").write_text(json.dumps(state))
    sync_folder(beside)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(beside, place)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def load_recovery(folder: Path) -> tuple[int, dict[str, Tensor]] | None:
    """The newest state that is whole, or None. A damaged one is named and passed over."""
    for place in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = json.loads((place / "state.json").read_text())
            if file_digest(place / "state.safetensors") != state["sha256"]:
                raise ValueError("the content differs from its hash")
            return int(state["step"]), load_file(place / "state.safetensors")
        except (OSError, ValueError, KeyError) as error:
            print(f"passing over the damaged recovery checkpoint {place.name}: {error}", file=sys.stderr)
    return None
