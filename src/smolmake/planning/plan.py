"""What would run, why, and what it costs: the plan that a dry run ends with, and that a run is checked against."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from smolmake.execution.step import Step
from smolmake.planning.checks import checked_rows
from smolmake.planning.cost import Cost, Costs
from smolmake.planning.history import History
from smolmake.planning.library_changes import LibraryChange, library_changes
from smolmake.planning.reasons import Reasons
from smolmake.planning.requests import gpus_here
from smolmake.planning.workflow import Workflow
from smolmake.recipe.formats import count_formats, list_data
from smolmake.recipe.validate import all_files


@dataclass(frozen=True)
class Plan:
    """A plan over the steps that would run. Hours are wall-clock, money is in the recipe's currency."""

    workflow: Workflow
    history: History
    running: list[Step]  # inputs come first
    costs: dict[str, Cost]
    reasons: dict[str, tuple[str, ...]]  # what makes each step run, in itself or in what it waits for
    own: dict[str, tuple[str, ...]]  # what changed in the step itself; empty where it only follows
    machine: int | None = None  # GPUs for jobs of the machine that runs it; None where it runs elsewhere

    @cached_property
    def keys(self) -> set[str]:
        return {step.key for step in self.running}

    @cached_property
    def done(self) -> set[str]:
        return self.history.finished & set(self.workflow.steps.all) - self.keys

    @property
    def gpu_hours(self) -> float:
        return sum(self.costs[step.key].gpu_hours for step in self.running)

    @cached_property
    def spent_gpu_hours(self) -> float:
        return self.history.spent_gpu_hours(self.workflow.recipe.name, set(self.workflow.steps.all))

    @property
    def unknown(self) -> list[Step]:
        """Steps whose time nobody can know before they have run once."""
        return [step for step in self.running if self.costs[step.key].hours is None]

    @property
    def uncertain(self) -> dict[str, list[Step]]:
        """The steps on GPUs whose price may be wrong several times over, by what it stands on."""
        found: dict[str, list[Step]] = {}
        for step in self.running:
            if (cost := self.costs[step.key]).uncertain and cost.gpu_hours:
                found.setdefault(cost.uncertain, []).append(step)
        return found

    @property
    def encoders(self) -> dict[str, list[Step]]:
        """The steps whose documents will, or may, be encoded slowly, by what there is to say of it."""
        found: dict[str, list[Step]] = {}
        for step in self.running:
            if told := self.costs[step.key].encoder:
                found.setdefault(told, []).append(step)
        return found

    def money(self, gpu_hours: float) -> float | None:
        price = self.workflow.recipe.cost.price_per_gpu_hour
        return None if price is None else gpu_hours * price

    def total(self, quantity: str) -> float:
        return math.fsum(getattr(self.costs[step.key], quantity) for step in self.running)

    @cached_property
    def critical_path(self) -> list[Step]:
        """The chain of steps that takes longest, in order."""
        best: dict[str, tuple[float, Step | None]] = {}
        for step in self.running:
            inputs = [other for other in step.inputs.values() if other.key in self.keys]
            before = max(inputs, key=lambda other: best[other.key][0], default=None)
            hours = self.costs[step.key].hours or 0.0
            best[step.key] = ((best[before.key][0] if before is not None else 0.0) + hours, before)
        chain: list[Step] = []
        last = max(self.running, key=lambda step: best[step.key][0], default=None)
        while last is not None:
            chain.append(last)
            last = best[last.key][1]
        return chain[::-1]

    @cached_property
    def hours(self) -> float:
        """Wall-clock hours with the devices there are: each step starts when its inputs are done and devices are free.

        Devices are `cost.gpus` or this machine's, and its cores for a recipe without GPUs; no limit where none is set.
        """
        all_gpus: float = min(self.workflow.recipe.cost.gpus or math.inf, self.machine or math.inf)
        all_cores: float = math.inf if any(cost.gpus for cost in self.costs.values()) else os.cpu_count() or 1
        gpus, cores, steps = all_gpus, all_cores, self.workflow.steps.all
        waiting = {step.key: {other.key for other in step.inputs.values()} & self.keys for step in self.running}
        followers: dict[str, list[str]] = {}
        for key, inputs in waiting.items():
            for other in inputs:
                followers.setdefault(other, []).append(key)
        order = {step.key: number for number, step in enumerate(self.running)}
        ready = [(order[key], key) for key, inputs in waiting.items() if not inputs]
        heapq.heapify(ready)
        going: list[tuple[float, str, float, float]] = []
        now = 0.0
        while ready or going:
            held: list[tuple[int, str]] = []
            while ready:
                number, key = heapq.heappop(ready)
                cost = self.costs[key]
                need_gpus = min(gpus_here(steps[key], self.machine) if self.machine else cost.gpus, all_gpus)
                need_cores = 0.0 if cost.gpus else min(steps[key].run.threads, all_cores)
                if need_gpus > gpus or need_cores > cores:
                    held.append((number, key))
                    continue
                gpus, cores = gpus - need_gpus, cores - need_cores
                heapq.heappush(going, (now + (cost.hours or 0.0), key, need_gpus, need_cores))
            for entry in held:
                heapq.heappush(ready, entry)
            now, key, freed_gpus, freed_cores = heapq.heappop(going)
            gpus, cores = gpus + freed_gpus, cores + freed_cores
            for follower in followers.get(key, []):
                waiting[follower].discard(key)
                if not waiting[follower]:
                    heapq.heappush(ready, (order[follower], follower))
        return now

    @cached_property
    def data(self) -> dict[str, dict[str, Any]]:
        """For each dataset with a path, by its key: how many files of each format, and those passed over by reason."""
        found: dict[str, dict[str, Any]] = {}
        root = self.workflow.steps.root
        chats = checked_rows(self.workflow.recipe, root)
        for key, files in all_files(self.workflow.recipe):
            if files.path is not None:
                listing = list_data(files.path, files.format, root)
                formats = count_formats(listing, files.format)
                found[key] = {"path": files.path, "files": formats, "passed_over": listing.passed_over}
                if key in chats:
                    found[key]["rows"] = asdict(chats[key])
        return found

    @cached_property
    def library_changes(self) -> list[LibraryChange]:
        """The libraries of which finished steps that are used were made with another version than today's."""
        steps = self.workflow.steps
        return library_changes([steps.all[key] for key in sorted(self.done)], self.history, steps.root)

    @cached_property
    def by_cause(self) -> list[tuple[str, list[Step]]]:
        """Every cause with the steps that it alone or with others makes run, the largest first."""
        found: dict[str, list[Step]] = {}
        for step in self.running:
            for cause in self.reasons[step.key]:
                found.setdefault(cause, []).append(step)
        return sorted(found.items(), key=lambda item: -len(item[1]))

    def as_json(self) -> dict[str, Any]:
        """The whole plan as JSON values."""
        cost = self.workflow.recipe.cost
        return {
            "recipe": self.workflow.recipe.name,
            "file": str(self.workflow.file),
            "done": sorted(self.done),
            "data": self.data,
            "library_changes": [asdict(change) for change in self.library_changes],
            "run": [
                {
                    "step": step.key,
                    "kind": step.kind,
                    "name": step.name,
                    "stage": step.stage,
                    "reasons": list(self.reasons[step.key]),
                    "waits_for": sorted({other.key for other in step.inputs.values()} & self.keys),
                    **asdict(self.costs[step.key]),
                    "gpu_hours": self.costs[step.key].gpu_hours,
                }
                for step in self.running
            ],
            "pins": [
                {"step": step.label, "id": step.id, "reason": step.pin.reason}
                for step in self.workflow.steps.all.values()
                if step.pin is not None
            ],
            "totals": {
                "tokens": self.total("tokens"),
                "flops": self.total("flops"),
                "gpu_hours": self.gpu_hours,
                "hours": self.hours,
                "critical_path": [step.key for step in self.critical_path],
                "kept_bytes": self.total("kept_bytes"),
                "temporary_bytes": max((self.costs[step.key].temporary_bytes for step in self.running), default=0.0),
                "money": self.money(self.gpu_hours),
                "currency": cost.currency,
                "unknown": [step.key for step in self.unknown],
            },
            "budget": {
                "gpu_hours": cost.budget.gpu_hours,
                "money": cost.budget.money,
                "spent_gpu_hours": self.spent_gpu_hours,
                "spent_money": self.money(self.spent_gpu_hours),
            },
        }


def make_plan(workflow: Workflow, manifests: Iterable[str] | None = None, machine: int | None = None) -> Plan:
    """The plan of the steps with these manifests (as a dry run lists them), or for all that are not done."""
    history = History(workflow.steps.root)
    if manifests is None:
        running = unfinished(workflow, history)
    else:
        wanted = set(manifests)
        running = [step for step in workflow.steps.all.values() if step.manifest in wanted]
    reasons = Reasons(workflow.steps, history, workflow.recipe.name, workflow.repeated)
    costs = Costs(workflow.recipe, workflow.steps.root, history)
    keys = {step.key for step in running}
    return Plan(
        workflow,
        history,
        running,
        {step.key: costs.of(step) for step in running},
        {step.key: reasons.causes(step, keys) for step in running},
        {step.key: reasons.own(step) for step in running},
        machine,
    )


def unfinished(workflow: Workflow, history: History) -> list[Step]:
    """The steps that the report, and so everything, waits for: those that are not finished, or must run again."""
    done = history.finished - set(workflow.repeated)
    return [step for step in workflow.steps.all.values() if step.key not in done]


def number_text(value: float) -> str:
    """A number for people: whole from 10 on, else with two significant digits."""
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2g}"
