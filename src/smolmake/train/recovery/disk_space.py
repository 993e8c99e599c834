"""Whether the disk has room for what a segment writes, before it trains."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import Tensor

from smolmake.errors import UserError

STATE_BYTES = 12  # a parameter's fp32 weight and two fp32 moments
COPIES = 3  # two recovery checkpoints stay while the next one, or the final checkpoint, is written


def check_room(folder: Path, parameters: dict[str, Tensor]) -> None:
    """Raise UserError if a segment's folder has no room for its recovery checkpoints and its checkpoint.

    Recovery checkpoints that are there already count as room: they are replaced. Milestones are not counted.
    """
    state = sum(parameter.numel() for parameter in parameters.values()) * STATE_BYTES
    there = sum(file.stat().st_size for file in (folder / "recovery").rglob("*") if file.is_file())
    needed, free = COPIES * state - there, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            "the disk has not enough free space for what this segment will write",
            file=folder, value=f"{free / 1e9:,.3g} GB free, {needed / 1e9:,.3g} GB needed",
            remedy="free space (smolmake gc lists what no recipe reaches, smolmake gc --states optimizer states that no"
            " segment waits for), then run the same command again",
        )  # fmt: skip
