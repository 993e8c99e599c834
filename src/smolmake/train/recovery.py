"""Recovery checkpoints inside a step's own folder: written beside and renamed, verified on load, the last two kept.

One process, or DDP, writes a single file. Sharded training writes with torch.distributed.checkpoint, each process its
own part. Either is read by any number of processes and any strategy.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from smolmake.files import file_digest, sync_folder
from smolmake.train.parallel import Group

KEPT = 2
FILE, SHARDS = "state.safetensors", "shards"


def save_recovery(folder: Path, step: int, tensors: dict[str, Tensor], group: Group) -> None:
    """Save the state from which step number `step` is the next to do. All processes call it."""
    place = folder / f"step-{step:09d}"
    beside = folder / f".{place.name}.tmp"
    if group.first:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    group.wait()
    if any(isinstance(tensor, DTensor) for tensor in tensors.values()):
        save(dict(tensors), checkpoint_id=beside / SHARDS)
    elif group.first:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside / FILE)
    group.wait()
    if group.first:
        digests = {name: file_digest(beside / name) for name in _files(beside)}
        (beside / "state.json").write_text(json.dumps({"step": step, "sha256": digests}))
        sync_folder(beside)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(beside, place)
        for old in sorted(folder.glob("step-*"))[:-KEPT]:
            shutil.rmtree(old)
    group.wait()


def load_recovery(folder: Path, parameters: dict[str, Tensor], group: Group) -> tuple[int, dict[str, Tensor]] | None:
    """The newest state that is whole, or None; a damaged one is named and passed over.

    Tensors that were sharded come back cut as the parameter of their name is now.
    """
    found = group.from_first(_newest_whole(folder) if group.first else None)
    if found is None:
        return None
    place = folder / f"step-{found:09d}"
    if (place / FILE).exists():
        return found, load_file(place / FILE)
    metadata = FileSystemReader(place / SHARDS).read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {}
    for name, about in metadata.items():
        assert isinstance(about, TensorStorageMetadata)
        parameter = parameters.get(name.split("/", 1)[1])
        if parameter is not None and about.size == parameter.shape:
            tensors[name] = torch.empty_like(parameter)
        else:
            tensors[name] = torch.empty(about.size, dtype=about.properties.dtype)
    load(tensors, checkpoint_id=place / SHARDS, no_dist=group.world == 1)
    return found, tensors


def _newest_whole(folder: Path) -> int | None:
    for place in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = json.loads((place / "state.json").read_text())
            for name, digest in state["sha256"].items():
                if file_digest(place / name) != digest:
                    raise ValueError(f"the content of {name} differs from its hash")
            if not state["sha256"]:
                raise ValueError("it has no tensors")
            return int(state["step"])
        except (OSError, ValueError, KeyError, AttributeError) as error:
            print(f"passing over the damaged recovery checkpoint {place.name}: {error}", file=sys.stderr)
    return None


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
