"""What the report is made from: the finished steps of one recipe, and its graph.

docs/reference/artefacts.md describes the files. They are read leniently in one respect only: a file that is not there
gives None or an empty list, and the part of the report that needs it is left out. What is there must follow the
contract.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from smolmake.execution.step import Step
from smolmake.graph.stages import GraphStage, recipe_stages
from smolmake.monitoring.metrics import METRICS, read_metrics
from smolmake.planning.plan import Plan
from smolmake.planning.workflow import Workflow

T = TypeVar("T")


def pick(what: type[T], raw: dict[str, Any], **more: Any) -> T:
    """A dataclass from a JSON object and what else is known; keys that it has no field for are left."""
    names = what.__dataclass_fields__  # type: ignore[attr-defined]
    return what(**{name: value for name, value in raw.items() if name in names}, **more)


@dataclass(frozen=True, slots=True)
class MetricLine:
    """One optimizer step of metrics.jsonl; `tokens` counts from the start of its run.

    `gradient_square` and `gradient_variance`, the estimates of |G|^2 and tr(Sigma), stand where they were measured,
    with the batch in `sequences`.
    """

    step: int
    loss: float
    tokens: float = 0.0
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    gradient_square: float = 0.0
    gradient_variance: float = 0.0
    sequences: int | None = None
    source_loss: dict[str, float] | None = None


@dataclass(frozen=True)
class ReportArtefact:
    """One finished step: its directory, its place in the order of work, and the stage that it belongs to.

    `checkpoint` is the name by which a recipe speaks of what the step measures (stage1, sft), if it has one; `measures`
    is the key of the step that keeps that checkpoint, and `milestone` which of its milestones it is.
    """

    kind: str
    name: str
    path: Path
    order: int
    stage: GraphStage
    checkpoint: str = ""
    measures: str = ""
    milestone: int | None = None

    def file(self, name: str) -> str:
        """A file of this artefact as the report shows it: relative to the results root."""
        return f"{self.kind}/{self.path.name}/{name}"

    def read(self, name: str) -> Any:
        """The content of a JSON file of this artefact, or None if it has no such file."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The `facts` of its manifest."""
        manifest: dict[str, Any] = self.read("manifest.json") or {}
        return dict(manifest.get("facts", {}))

    @cached_property
    def metrics(self) -> list[MetricLine]:
        """The lines of metrics.jsonl in the order of steps; of a step that was done twice, the later line counts."""
        raw = read_metrics(self.path / METRICS)
        lines = {m["step"]: pick(MetricLine, m) for m in raw if m.get("loss") is not None and math.isfinite(m["loss"])}
        return [lines[step] for step in sorted(lines)]


Loaded = tuple[ReportArtefact, Any, str]


@dataclass(frozen=True)
class GraphNode:
    """One step of the graph. `seconds` and `gpu_hours` are what it took, or will take: None is not known."""

    key: str
    kind: str
    stage: GraphStage
    state: Literal["done", "missing"]
    seconds: float | None = None
    gpu_hours: float = 0.0


class PinnedStep(NamedTuple):
    """A step that stays although its code has changed; `file` says so, relative to the results root."""

    kind: str
    name: str
    id: str
    reason: str
    file: str


@dataclass(frozen=True)
class GraphData:
    """The steps, inputs first, and, as pairs of keys, which step needs which: (from, to).

    `price` is of one GPU-hour. `waits` holds for each stage its share of the longest chain of steps to run, and `wall`
    the time of all that is to run with the devices there are, in seconds. `uncertain` holds GPU-hours that may be wrong
    several times over, by what they stand on.
    """

    nodes: list[GraphNode]
    edges: list[tuple[str, str]]
    price: float | None = None
    currency: str = ""
    waits: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0
    pins: list[PinnedStep] = field(default_factory=list)
    uncertain: dict[str, float] = field(default_factory=dict)


def artefacts_of(workflow: Workflow) -> list[ReportArtefact]:
    """All finished steps but the report itself, in the order of work."""
    stages = recipe_stages(workflow.recipe)
    ends = {step.name: name for name, step in workflow.steps.checkpoints.items()}
    steps = [step for step in workflow.steps.all.values() if step.kind != "report"]
    return [
        ReportArtefact(
            step.kind,
            step.name,
            Path("results") / step.key,
            order,
            stages[step.stage],
            ends.get(step.name, "") if step.kind == "evaluation" else "",
            step.inputs["checkpoint"].key if "checkpoint" in step.inputs else "",
            getattr(step.spec, "milestone", None),
        )
        for order, step in enumerate(steps)
        if (workflow.steps.root / step.manifest).exists()
    ]


def graph_of(plan: Plan, leave_out: str = "") -> GraphData:
    """The steps of a plan with their states, but for those of the kind `leave_out`."""
    cost, stages, root = plan.workflow.recipe.cost, recipe_stages(plan.workflow.recipe), plan.workflow.steps.root
    steps = [step for step in plan.workflow.steps.all.values() if step.kind != leave_out]
    waits: dict[str, float] = {}
    for step in plan.critical_path:
        waits[step.stage] = waits.get(step.stage, 0.0) + 3600 * (plan.costs[step.key].hours or 0.0)
    return GraphData(
        [_node(plan, step, stages[step.stage]) for step in steps],
        [(other.key, step.key) for step in steps for other in step.inputs.values()],
        cost.price_per_gpu_hour,
        cost.currency,
        waits,
        3600 * plan.hours,
        [PinnedStep(s.kind, s.name, s.id, s.pin.reason, f"../{s.pin.file.relative_to(root)}") for s in steps if s.pin],
        {told: sum(plan.costs[step.key].gpu_hours for step in those) for told, those in plan.uncertain.items()},
    )


def _node(plan: Plan, step: Step, stage: GraphStage) -> GraphNode:
    if step.key in plan.costs:
        cost = plan.costs[step.key]
        seconds = None if cost.hours is None else 3600 * cost.hours
        return GraphNode(step.key, step.kind, stage, "missing", seconds, cost.gpu_hours)
    try:
        provenance = json.loads((plan.workflow.steps.root / "results" / step.key / "provenance.json").read_text())
    except (OSError, ValueError):
        provenance = {}
    seconds = provenance.get("seconds")
    return GraphNode(step.key, step.kind, stage, "done", seconds, provenance.get("gpus", 0) * (seconds or 0) / 3600)


def of_kind(artefacts: list[ReportArtefact], *kinds: str) -> list[ReportArtefact]:
    """The artefacts of a kind, or of several, in the order of work."""
    return sorted((a for a in artefacts if a.kind in kinds), key=lambda a: (a.order, a.name))


def load(artefacts: list[ReportArtefact], kind: str, file: str) -> list[Loaded]:
    """The artefacts of a kind that have the JSON file, with its content and its name in the report."""
    return [(a, raw, a.file(file)) for a in of_kind(artefacts, kind) if (raw := a.read(file)) is not None]


@dataclass(frozen=True)
class Overlap:
    """For each task, which of its items each source held, as (source, counts); and the files that say so."""

    tasks: dict[str, list[tuple[str, dict[str, Any]]]]
    files: list[str]

    def found(self, task: str) -> tuple[int, int]:
        """How many items of a task any source held, and how many it has."""
        counts = [counts for _, counts in self.tasks[task]]
        items = max(each["items"] for each in counts)
        if (numbers := self.numbers(task)) is not None:
            return len(numbers), items
        return min(sum(each["items_found"] for each in counts), items), items

    def numbers(self, task: str) -> set[int] | None:
        """Which of a task's items any source held; None where a source was searched before this was written down."""
        counts = [counts for _, counts in self.tasks[task]]
        return {number for each in counts for number in each["found"]} if all("found" in c for c in counts) else None


def read_overlap(artefacts: list[ReportArtefact]) -> Overlap:
    """What decontamination found, where it dropped documents and where it only counted."""
    read = load(artefacts, "documents", "cleaning.json") + load(artefacts, "overlap", "overlap.json")
    overlap = Overlap({}, [file for _, raw, file in read if raw.get("overlap")])
    for artefact, raw, _ in read:
        for task, counts in raw.get("overlap", {}).items():
            overlap.tasks.setdefault(task, []).append((artefact.name, counts))
    return overlap
