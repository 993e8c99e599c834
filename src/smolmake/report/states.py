"""The graph of a plan for its drawing: every step with its state, and what it took or will take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smolmake.execution.step import Step
from smolmake.planning.plan import Plan
from smolmake.report.artifacts import GraphData, GraphNode


def graph_of(plan: Plan, leave_out: str = "") -> GraphData:
    """The steps of a plan, but for those of the kind `leave_out`."""
    compute = plan.workflow.recipe.compute
    steps = [step for step in plan.workflow.steps.all.values() if step.kind != leave_out]
    waits: dict[str, float] = {}
    for step in plan.critical_path:
        waits[step.stage] = waits.get(step.stage, 0.0) + 3600 * (plan.costs[step.key].hours or 0.0)
    return GraphData(
        [_node(plan, step) for step in steps],
        [(other.key, step.key) for step in steps for other in step.inputs.values()],
        compute.price_per_gpu_hour,
        compute.currency,
        waits,
        3600 * plan.hours,
        [(step.label, step.id, step.pin.reason) for step in steps if step.pin is not None],
    )


def _node(plan: Plan, step: Step) -> GraphNode:
    if step.key in plan.costs:
        cost = plan.costs[step.key]
        seconds = None if cost.hours is None else 3600 * cost.hours
        return GraphNode(step.key, step.kind, step.stage, "missing", seconds, cost.gpu_hours)
    provenance = _provenance(plan.workflow.steps.root / "results" / step.key)
    seconds = provenance.get("seconds")
    return GraphNode(
        step.key, step.kind, step.stage, "done", seconds, provenance.get("gpus", 0) * (seconds or 0) / 3600
    )


def _provenance(folder: Path) -> dict[str, Any]:
    try:
        provenance: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    except (OSError, ValueError):
        return {}
    return provenance
