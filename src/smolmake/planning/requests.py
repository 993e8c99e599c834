"""What a step asks of a cluster: nodes, GPUs, cores, memory and time, from the recipe's layout and the plan's costs.

The names are those that Snakemake's Slurm plugin reads. One node: `gres`. Several: also `nodes` and, through `mpi`, a
job whose command starts its own steps; one task a GPU, told by `tasks_per_node`, or by `tasks` where a node has one
GPU, which the plugin refuses in the other form. `tasks_per_gpu: 0` keeps it from guessing that number from `tasks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from smolmake.errors import UserError
from smolmake.execution.kinds import KINDS
from smolmake.execution.step import Step
from smolmake.hardware.memory import FP32
from smolmake.planning.cost import Costs
from smolmake.planning.workflow import Workflow

NAMES = ("nodes", "gres", "mpi", "tasks", "tasks_per_node", "tasks_per_gpu", "cpus_per_task", "mem_mb", "runtime")
TIME_MARGIN, START_MINUTES = 1.5, 30  # of an estimated time; for the queue's node to start, load and save
GPU_MEMORY_MB = 24_000  # of host memory for each process on a GPU: libraries, CUDA, batches, data under way
STATE_COPIES = 3  # in host memory while a checkpoint is put together; the weights alone once more


@dataclass(frozen=True)
class Site:
    """What a cluster allows: the longest job in minutes, and the type of GPU by which Slurm knows it."""

    longest: int | None = None
    gpu_type: str | None = None


class Requests:
    """The resources of a recipe's steps on a site."""

    def __init__(self, workflow: Workflow, site: Site) -> None:
        self.workflow, self.site = workflow, site
        self._requests: dict[str, dict[str, Any]] = {}

    @cached_property
    def costs(self) -> Costs:
        return Costs(self.workflow.recipe, self.workflow.steps.root, None)

    def of(self, step: Step) -> dict[str, Any]:
        """Resources by name; None where a step asks for nothing."""
        if step.key not in self._requests:
            self._requests[step.key] = self._of_devices(step) if KINDS[step.kind].devices else self._of_cores(step)
        return self._requests[step.key]

    def _of_cores(self, step: Step) -> dict[str, Any]:
        kind = KINDS[step.kind]
        memory = kind.mem_mb * (step.run.threads if kind.workers else 1)
        return dict.fromkeys(NAMES) | {"mem_mb": memory, "runtime": kind.runtime}

    def _of_devices(self, step: Step) -> dict[str, Any]:
        kind, nodes, gpus = KINDS[step.kind], step.run.nodes, step.run.gpus_per_node
        request: dict[str, Any] = dict.fromkeys(NAMES)
        if gpus:
            request["gres"] = ":".join(filter(None, ("gpu", self.site.gpu_type, str(gpus))))
        if nodes > 1:
            share = {"tasks": nodes} if gpus <= 1 else {"tasks_per_node": gpus}
            request |= {"nodes": nodes, "mpi": "srun", "tasks_per_gpu": 0, **share}
        elif gpus > 1:
            request["cpus_per_task"] = gpus * step.run.threads
        request["mem_mb"] = max(kind.mem_mb, self._memory(step, gpus))
        request["runtime"] = self._minutes(step, kind.runtime)
        return request

    def _memory(self, step: Step, gpus: int) -> int:
        checkpoint = STATE_COPIES * self.costs.state_bytes(step) + self.costs.parameters * FP32
        return gpus * GPU_MEMORY_MB + math.ceil(checkpoint / 1e6)

    def _minutes(self, step: Step, least: int) -> int:
        """The time limit: the estimate with a margin, at least the rule's own, at most the site's.

        A training that does not fit goes on in a second job from its last recovery checkpoint.
        """
        estimate = math.ceil((self.costs.of(step).hours or 0.0) * 60 * TIME_MARGIN) + START_MINUTES
        wanted = max(estimate, least) if not self.costs.of(step).gpus else estimate
        return min(wanted, self.site.longest or wanted)


def check_one_machine(steps: Iterable[Step]) -> None:
    """Raise UserError if a step's layout needs several nodes, where jobs run on this machine."""
    for step in steps:
        if step.run.nodes > 1:
            raise UserError(
                f"{step.label} runs on several nodes, and this profile runs jobs on this machine",
                key="runtime.layouts", value=f"nodes {step.run.nodes}",
                remedy="run with --profile profiles/slurm, or give the layout one node: the result is the same",
            )  # fmt: skip
