"""Results of the checks before the start, as the table that preflight prints has them."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from smolmake.train.parallel import ParallelContext


@dataclass(frozen=True)
class CheckResult:
    """A check: what was measured, what is required, whether that is enough, and which nodes fall short."""

    check: str
    measured: str
    required: str
    passed: bool
    nodes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A line of the table."""
        mark, nodes = "pass" if self.passed else "FAIL", f"  on {', '.join(self.nodes)}" if self.nodes else ""
        return f"{mark}  {self.check:26} {self.measured:44} required {self.required or 'nothing'}{nodes}"


def node_name() -> str:
    """This node, as the cluster calls it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def gather(parallel: ParallelContext, value: Any) -> list[Any]:
    """The value of every process, by rank."""
    if parallel.world_size == 1:
        return [value]
    values: list[Any] = [None] * parallel.world_size
    dist.all_gather_object(values, value)
    return values


def judge(parallel: ParallelContext, check: str, values: list[float], least: float | None, unit: str) -> CheckResult:
    """The result of one figure a process: each must reach `least`; None means that it is only shown."""
    nodes = gather(parallel, node_name())
    short = () if least is None else tuple(dict.fromkeys(n for n, v in zip(nodes, values, strict=True) if v < least))
    spread = f"{min(values):,.4g}" + (f" to {max(values):,.4g}" if len(values) > 1 else "")
    return CheckResult(check, f"{spread} {unit}", "" if least is None else f"{least:,.4g} {unit}", not short, short)
