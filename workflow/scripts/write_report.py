"""Write the report of a recipe from its finished steps. Usage: write_report.py RECIPE MANIFEST"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from smolmake.errors import run_as_program
from smolmake.identity.manifest import MANIFEST, write_manifest
from smolmake.plan.graph import Plan, check_unchanged, plan_recipe
from smolmake.program import only_one
from smolmake.report import GraphData, GraphNode, ReportArtefact, write_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("manifest", help="the manifest to write, as the graph names it")
    arguments = parser.parse_args()
    started = time.time()
    plan = plan_recipe(arguments.recipe, Path.cwd())
    step = plan.steps.of_kind("report")[0]
    check_unchanged(plan, step.manifest, arguments.manifest)
    folder = Path("results") / step.key
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder):
        recipe = plan.recipe
        sources = write_report(
            recipe.title or recipe.name, recipe.description, artefacts(plan), graph(plan), recipe.model_dump(), folder
        )
        inputs = {role: Path(other.manifest) for role, other in step.inputs.items()}
        payload = [folder / "report.html", folder / "sources.json"]
        identity = {"kind": step.kind, "name": step.name, "id": step.id}
        write_manifest(folder, identity, inputs, payload, {"figures": len(sources)}, started)


def artefacts(plan: Plan) -> list[ReportArtefact]:
    """All finished steps but the report itself, in the order of work."""
    steps = [step for step in plan.steps.all.values() if step.kind != "report"]
    return [
        ReportArtefact(step.kind, step.name, Path("results") / step.key, order, step.name, step.group)
        for order, step in enumerate(steps)
        if Path(step.manifest).exists()
    ]


def graph(plan: Plan) -> GraphData:
    """The steps with their state and the seconds that they took."""
    nodes, edges = [], []
    for step in plan.steps.all.values():
        if step.kind == "report":
            continue
        folder = Path("results") / step.key
        done = (folder / MANIFEST).exists()
        nodes.append(GraphNode(step.key, step.kind, step.name, step.id, "done" if done else "missing", seconds(folder)))
        edges += [(other.key, step.key) for other in step.inputs.values()]
    return GraphData(nodes, edges)


def seconds(folder: Path) -> float | None:
    try:
        provenance: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    except (OSError, ValueError):
        return None
    return float(provenance["seconds"])


if __name__ == "__main__":
    run_as_program(main)
