"""The graph of a plan for its drawing: every step with its state, and what it took or will take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smolmake.execution.step import Step
from smolmake.planning.plan import Outlook
from smolmake.report.artifacts import GraphData, GraphNode


def graph_of(outlook: Outlook, leave_out: str = "") -> GraphData:
    """The steps of a plan, but for those of the kind `leave_out`."""
    compute = outlook.plan.recipe.compute
    steps = [step for step in outlook.plan.steps.all.values() if step.kind != leave_out]
    waits: dict[str, float] = {}
    for step in outlook.critical_path:
        waits[step.group] = waits.get(step.group, 0.0) + 3600 * (outlook.costs[step.key].hours or 0.0)
    return GraphData(
        [_node(outlook, step) for step in steps],
        [(other.key, step.key) for step in steps for other in step.inputs.values()],
        compute.price_per_gpu_hour,
        compute.currency,
        waits,
        3600 * outlook.hours,
        [(step.label, step.id, step.pin.reason) for step in steps if step.pin is not None],
    )


def _node(outlook: Outlook, step: Step) -> GraphNode:
    if step.key in outlook.costs:
        cost = outlook.costs[step.key]
        seconds = None if cost.hours is None else 3600 * cost.hours
        return GraphNode(step.key, step.kind, step.group, "missing", seconds, cost.gpu_hours)
    provenance = _provenance(outlook.plan.steps.root / "results" / step.key)
    seconds = provenance.get("seconds")
    return GraphNode(
        step.key, step.kind, step.group, "done", seconds, provenance.get("gpus", 0) * (seconds or 0) / 3600
    )


def _provenance(folder: Path) -> dict[str, Any]:
    try:
        provenance: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    except (OSError, ValueError):
        return {}
    return provenance
