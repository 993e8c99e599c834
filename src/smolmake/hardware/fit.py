"""Whether a training step fits into a GPU's memory, and if not, which changes of the layout would make it fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smolmake.hardware.gpus import GIB
from smolmake.hardware.memory import MemoryLayout, memory_use
from smolmake.model.counts import Shape

if TYPE_CHECKING:
    from smolmake.recipe.runtime import Checkpointing

HEADROOM = 0.1
CHECKPOINTING: tuple[Checkpointing, ...] = ("none", "selective", "full")


@dataclass(frozen=True)
class Fit:
    """Whether a layout fits; if not, why and what to do."""

    fits: bool
    reason: str
    remedy: str


def fit(shape: Shape, layout: MemoryLayout, memory: int) -> Fit:
    """Whether the peak fits into `memory` bytes of a GPU, of which the share HEADROOM is left alone."""
    use, usable = memory_use(shape, layout), int(memory * (1 - HEADROOM))
    if use.total <= usable:
        return Fit(True, f"{_gib(use.total)} of {_gib(usable)} GiB", "")
    largest = sorted(use.parts.items(), key=lambda part: -part[1])[:3]
    reason = (
        f"{_gib(use.total)} GiB are needed ({use.peak_moment}), {_gib(usable)} of {_gib(memory)} can be used; "
        "largest: " + ", ".join(f"{name} {_gib(size)}" for name, size in largest)
    )
    return Fit(False, reason, _remedy(shape, layout, usable))


def _remedy(shape: Shape, layout: MemoryLayout, usable: int) -> str:
    """The single changes that suffice; else all of them together; else that none does."""
    sufficient = [
        f"{text} ({_gib(total)} GiB)"
        for text, changed in _changes(layout)
        if (total := memory_use(shape, changed).total) <= usable
    ]
    for key in ("micro_batch", "context_parallel"):  # the smallest change of each is enough
        more = [text for text in sufficient if text.startswith(key)][1:]
        sufficient = [text for text in sufficient if text not in more]
    if sufficient:
        return "any one of: " + "; ".join(sufficient)
    least = _least(layout)
    total = memory_use(shape, least).total
    changed = ", ".join(
        f"{field.name} {getattr(least, field.name)}"
        for field in dataclasses.fields(least)
        if getattr(least, field.name) != getattr(layout, field.name)
    )
    if total <= usable:
        return f"no single change suffices; together these do ({_gib(total)} GiB): {changed}"
    return (
        f"even {changed or 'this layout'} needs {_gib(total)} GiB: more GPUs in shard_group and context_parallel, "
        "GPUs with more memory, or a smaller model"
    )


def _changes(layout: MemoryLayout) -> Iterator[tuple[str, MemoryLayout]]:
    """Single changes that save memory, the cheapest in time first."""
    if layout.shard_group > 1 and layout.sharding != "zero3":
        yield "sharding zero3", dataclasses.replace(layout, sharding="zero3")
    micro_batch = layout.micro_batch
    while micro_batch > 1:
        micro_batch //= 2
        yield f"micro_batch {micro_batch}", dataclasses.replace(layout, micro_batch=micro_batch)
    for checkpointing in CHECKPOINTING[CHECKPOINTING.index(layout.checkpointing) + 1 :]:
        yield f"checkpointing {checkpointing}", dataclasses.replace(layout, checkpointing=checkpointing)
    shared = 2 * layout.context_parallel
    while layout.shard_group % shared == 0 and layout.sequence_length % shared == 0:
        yield f"context_parallel {shared}", dataclasses.replace(layout, context_parallel=shared)
        shared *= 2


def _least(layout: MemoryLayout) -> MemoryLayout:
    """The layout with all changes that save memory on the same GPUs."""
    return dataclasses.replace(
        layout,
        micro_batch=1,
        sharding="zero3" if layout.shard_group > 1 else layout.sharding,
        checkpointing="full",
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"
