"""What a check before the start found, in the words of the table that preflight prints."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from smolmake.train.parallel import Group


@dataclass(frozen=True)
class Finding:
    """A check: what was measured, what is wanted, whether that is enough, and which nodes fall short."""

    check: str
    found: str
    wanted: str
    passed: bool
    nodes: tuple[str, ...] = ()


def node_name() -> str:
    """This node, as the cluster calls it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def gather(group: Group, value: Any) -> list[Any]:
    """The value of every process, by rank."""
    if group.world == 1:
        return [value]
    values: list[Any] = [None] * group.world
    dist.all_gather_object(values, value)
    return values


def judge(group: Group, check: str, values: list[float], least: float | None, unit: str) -> Finding:
    """A finding on one figure a process: each must reach `least`; None means that it is only told."""
    nodes = gather(group, node_name())
    short = () if least is None else tuple(dict.fromkeys(n for n, v in zip(nodes, values, strict=True) if v < least))
    spread = f"{min(values):,.4g}" + (f" to {max(values):,.4g}" if len(values) > 1 else "")
    return Finding(check, f"{spread} {unit}", "" if least is None else f"{least:,.4g} {unit}", not short, short)
