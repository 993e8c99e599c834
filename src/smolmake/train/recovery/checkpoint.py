"""Recovery checkpoints inside a step's own folder: written by a thread while training goes on, verified on load.

One process, or DDP, writes a single file. Sharded training writes with torch.distributed.checkpoint, each process its
own part. Either is read by any number of processes and any strategy. A checkpoint is written beside its place and
renamed when all of it, hashes too, is on the disk; the last two are kept, and the newest from before any spike that
could still be noticed.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.tensor import DTensor

from smolmake.errors import UserError
from smolmake.files import file_digest, publish_folder
from smolmake.hardware.memory import RECOVERY_COPIES
from smolmake.train.parallel import ParallelContext
from smolmake.train.recovery.safe_unpickle import ShardReader

FILE, SHARDS, STATE = "state.safetensors", "shards", "state.json"
Report = Callable[[str, int, str], None]


@dataclass
class Recovery:
    """The recovery checkpoints of a segment. All processes call each method; the first one writes what all share.

    A save that fails goes to `report` and leaves the checkpoints before it. `saved` is called, by the thread that
    writes, with each checkpoint that is whole and its `safe`; `fetch` is asked for the name of one from elsewhere, from
    which a given step is still to do, where this folder has none.
    """

    folder: Path
    parallel: ParallelContext
    report: Report = lambda kind, step, what: print(what, file=sys.stderr)
    saved: Callable[[Path, int | None], None] = lambda place, safe: None
    fetch: Callable[[int | None], str | None] = lambda before: None
    under_way: Future[Any] | None = None
    copies: dict[str, Tensor] = field(default_factory=dict)
    stager: DefaultStager | None = None
    own_group: Any = None
    writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "recovery"))

    @property
    def busy(self) -> bool:
        """Whether this process still writes."""
        return self.under_way is not None and not self.under_way.done()

    def save(self, step: int, tensors: dict[str, Tensor], rolled_back: int = 0, safe: int | None = None) -> None:
        """Copy the state from which step number `step` is the next to do, and have it written.

        `rolled_back` counts the roll-backs before it; the newest checkpoint at or before step `safe` is kept.
        """
        self._settle()
        place = self.folder / (f"step-{step:09d}" + (f".{rolled_back}" if rolled_back else ""))
        beside = self.folder / f".{place.name}.tmp"
        shards: Future[Any] | None = None
        if any(isinstance(tensor, DTensor) for tensor in tensors.values()):
            shards = self._save_shards(tensors, beside)
        if not self.parallel.is_main:
            self.under_way = shards
            return
        copied = {} if shards is not None else self._copy(tensors)
        self.under_way = self.writer.submit(self._write, place, beside, step, copied, shards, safe)

    def wait(self) -> None:
        """Until the checkpoint under way, if any, is whole on all processes, or reported as failed."""
        self._settle()
        self.parallel.barrier()

    def load(self, parameters: dict[str, Tensor], before: int | None = None) -> tuple[int, dict[str, Tensor]] | None:
        """The newest state that is whole (and from which step `before` is still to do), or None.

        A damaged one is named and passed over. Tensors that were sharded come back cut as the parameter of their name
        is now.
        """
        name = None
        if self.parallel.is_main:
            name = _newest_whole(self.folder, before) or self.fetch(before)
        name = self.parallel.broadcast(name)
        return None if name is None else (step_of(name), _read(self.folder / name, parameters, self.parallel))

    def discard(self, rolled_back: int, after: int) -> None:
        """Delete what was saved before roll-back number `rolled_back` from behind step `after`: it holds the spike."""
        if self.parallel.is_main:
            for name in _names(self.folder):
                earlier, step = _age(name)
                if earlier < rolled_back and step > after:
                    shutil.rmtree(self.folder / name, ignore_errors=True)
        self.parallel.barrier()

    def _save_shards(self, tensors: dict[str, Tensor], beside: Path) -> Future[Any]:
        if self.own_group is None:  # the thread's messages must not mix with the training's
            self.own_group = dist.new_group(backend="gloo") if self.parallel.world_size > 1 else None
            pinned = self.parallel.device.type == "cuda"
            self.stager = DefaultStager(StagingOptions(pinned, False, False, pinned))
        if self.parallel.is_main:
            shutil.rmtree(beside, ignore_errors=True)
        self.parallel.barrier()
        future = async_save(
            dict(tensors), checkpoint_id=beside / SHARDS, process_group=self.own_group, async_stager=self.stager
        )
        assert isinstance(future, Future)
        return future

    def _copy(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors in host memory, which is kept for the next time."""
        pinned = self.parallel.device.type == "cuda"
        for name in self.copies.keys() - tensors.keys():
            del self.copies[name]
        for name, tensor in tensors.items():
            copy = self.copies.get(name)
            if copy is None or copy.shape != tensor.shape:
                copy = self.copies[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            copy.copy_(tensor, non_blocking=pinned)
        if pinned:
            torch.cuda.synchronize()
        return self.copies

    def _write(
        self, place: Path, beside: Path, step: int, tensors: dict[str, Tensor], shards: Future[Any] | None,
        safe: int | None,
    ) -> None:  # fmt: skip
        """In the first process's thread: all of the checkpoint on the disk, then its name, then the old ones away."""
        try:
            if shards is not None:
                shards.result()  # done when every process has written
            else:
                shutil.rmtree(beside, ignore_errors=True)
                beside.mkdir(parents=True)
                save_file(tensors, beside / FILE)
            files = sorted(path for path in beside.rglob("*") if path.is_file())
            digests = {path.relative_to(beside).as_posix(): file_digest(path) for path in files}
            (beside / STATE).write_text(json.dumps({"step": step, "sha256": digests}))
            publish_folder(beside, place)
            names = _names(self.folder)
            for name in set(names) - kept(names, safe):
                shutil.rmtree(self.folder / name, ignore_errors=True)
        except Exception as error:  # whatever it is, the training can go on from the checkpoint before
            shutil.rmtree(beside, ignore_errors=True)
            self.report("saving", step, f"the recovery checkpoint could not be written: {' '.join(str(error).split())}")
            return
        self.saved(place, safe)

    def _settle(self) -> None:
        if self.under_way is not None:
            self.under_way.exception()
            self.under_way = None


def _age(name: str) -> tuple[int, int]:
    """How many roll-backs were before a checkpoint, and its step."""
    step, _, rolled_back = name.removeprefix("step-").partition(".")
    return int(rolled_back or 0), int(step)


def step_of(name: str) -> int:
    return _age(name)[1]


def ordered(names: list[str], before: int | None) -> list[str]:
    """Names of checkpoints from which step `before`, if given, is still to do, the newest first.

    One from after a roll-back is newer than all from before it.
    """
    fitting = [name for name in names if before is None or step_of(name) <= before]
    return sorted(fitting, key=_age, reverse=True)


def kept(names: list[str], safe: int | None) -> set[str]:
    """The checkpoints that are not to be deleted: the last two, and the newest from at or before step `safe`."""
    return {*ordered(names, None)[:RECOVERY_COPIES], *(ordered(names, safe)[:1] if safe is not None else [])}


def _names(folder: Path) -> list[str]:
    return [place.name for place in folder.glob("step-*")]


def _newest_whole(folder: Path, before: int | None) -> str | None:
    for place in (folder / name for name in ordered(_names(folder), before)):
        try:
            state = json.loads((place / STATE).read_text())
            for name, digest in state["sha256"].items():
                if file_digest(place / name) != digest:
                    raise ValueError(f"the content of {name} differs from its hash")
            if not state["sha256"]:
                raise ValueError("it has no tensors")
            return place.name
        except (OSError, ValueError, KeyError, AttributeError) as error:
            print(f"passing over the damaged recovery checkpoint {place.name}: {error}", file=sys.stderr)
    return None


def _read(place: Path, parameters: dict[str, Tensor], parallel: ParallelContext) -> dict[str, Tensor]:
    if (place / FILE).exists():
        return load_file(place / FILE)
    reader = ShardReader(place / SHARDS)
    metadata = reader.read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {}
    for name, stored in metadata.items():
        assert isinstance(stored, TensorStorageMetadata)
        parameter = parameters.get(name.split("/", 1)[1])
        if parameter is not None and stored.size == parameter.shape:
            tensors[name] = torch.empty_like(parameter)
        else:
            tensors[name] = torch.empty(stored.size, dtype=stored.properties.dtype)
    load(tensors, storage_reader=reader, no_dist=parallel.world_size == 1)
    return tensors


def check_disk_space(folder: Path, state: int) -> None:
    """Raise UserError if a segment's folder has no room for its checkpoint and recovery checkpoints of `state` bytes.

    Recovery checkpoints that are there already count as room: they are replaced. Milestones are not counted.
    """
    there = sum(file.stat().st_size for file in (folder / "recovery").rglob("*") if file.is_file())
    needed, free = (RECOVERY_COPIES + 1) * state - there, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            "the disk has not enough free space for what this segment will write",
            file=folder, value=f"{free / 1e9:,.3g} GB free, {needed / 1e9:,.3g} GB needed",
            remedy="free space (smolmake gc lists what no recipe reaches, smolmake gc --states optimizer states that no"
            " segment waits for), then run the same command again",
        )  # fmt: skip
