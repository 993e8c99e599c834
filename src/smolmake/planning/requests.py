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
from smolmake.execution.devices import machine_gpus
from smolmake.execution.kinds import KINDS
from smolmake.execution.step import Step
from smolmake.graph.specs.runs import DeviceRun
from smolmake.hardware.memory import FP32
from smolmake.planning.cost import Costs
from smolmake.planning.workflow import Workflow

NAMES = ("nodes", "gres", "mpi", "tasks", "tasks_per_node", "tasks_per_gpu", "cpus_per_task", "mem_mb", "runtime")
TIME_MARGIN, START_MINUTES = 1.5, 30  # of an estimated time; for the queue's node to start, load and save
GPU_MEMORY_MB = 24_000  # of host memory for each process on a GPU: libraries, CUDA, batches, data under way
ELSEWHERE = (
    "run with --profile slurm, or give the layout what is here: the result is the same. A small recipe can train on the"
    " CPU: leave gpus_per_node out, or set runtime.device: cpu"
)
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
        wanted = estimate if step.run.gpus_per_node else max(estimate, least)
        return min(wanted, self.site.longest or wanted)


def gpus_here(step: Step, machine: int) -> int:
    """The GPUs that a step's job takes of this machine, of which jobs may have that many."""
    return step.run_as(DeviceRun).gpus_here(machine) if KINDS[step.kind].devices else 0


def own_gpus(step: Step, machine: int | None) -> int | None:
    """What `gpus_here` gives; None where jobs run elsewhere, or have nothing to do with GPUs."""
    return gpus_here(step, machine) if machine is not None and machine_gpus() and KINDS[step.kind].devices else None


def beyond_machine(steps: Iterable[Step], machine: int) -> list[tuple[Step, str, str]]:
    """The steps that a machine with that many GPUs cannot run, each with what it needs and its value in the recipe."""
    found = []
    for step in steps:
        if step.run.nodes > 1:
            found.append((step, f"{step.run.nodes} nodes", f"nodes: {step.run.nodes}"))
        elif (needed := gpus_here(step, machine)) > machine:
            gpus = step.run.gpus_per_node
            value = f"gpus_per_node: {gpus}" if gpus else "runtime.device: cuda"
            found.append((step, f"{needed} GPU{'s' * (needed > 1)}", value))
    return found


def machine_text(machine: int) -> str:
    """This machine's GPUs in words."""
    return f"this machine has {machine or 'no'} GPU{'' if machine == 1 else 's'} for jobs"


def check_one_machine(steps: Iterable[Step], machine: int) -> None:
    """Raise UserError if a step's layout has more than this machine, where jobs run on it."""
    for step, needed, value in beyond_machine(steps, machine):
        raise UserError(
            f"{step.label} needs {needed}, and {machine_text(machine)}",
            key="runtime.layouts", value=value, remedy=ELSEWHERE,
        )  # fmt: skip
