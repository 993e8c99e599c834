"""Write the report of a recipe from its finished steps. Usage: report.py RECIPE MANIFEST"""

import argparse
import json
import time
from pathlib import Path

from smolmake.errors import run_as_program
from smolmake.execution.job import Job
from smolmake.execution.lease import hold
from smolmake.execution.manifest import MANIFEST, write_manifest
from smolmake.planning.plan import look_ahead
from smolmake.planning.workflow import Plan, check_unchanged, plan_recipe
from smolmake.report.artifacts import ReportArtefact
from smolmake.report.page import write_report
from smolmake.report.states import graph_of


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
    inputs = {role: Path(other.manifest) for role, other in step.inputs.items()}
    with hold(folder, folder / MANIFEST):  # another one's report is written anew: more may be finished by now
        recipe = plan.recipe
        Job(**{**json.loads(plan.job_of(step)), "folder": folder, "inputs": inputs}).record_identity(Path(__file__))
        sources = write_report(
            recipe.title or recipe.name,
            recipe.description,
            artefacts(plan),
            graph_of(look_ahead(plan), leave_out="report"),
            recipe.model_dump(),
            folder,
        )
        payload = [folder / "report.html", folder / "sources.json"]
        identity = {"kind": step.kind, "name": step.name, "id": step.id}
        about = {"recipe": recipe.name, "gpus": 0}
        write_manifest(folder, identity, inputs, payload, {"figures": len(sources)}, started, about=about)


def artefacts(plan: Plan) -> list[ReportArtefact]:
    """All finished steps but the report itself, in the order of work."""
    steps = [step for step in plan.steps.all.values() if step.kind != "report"]
    return [
        ReportArtefact(step.kind, step.name, Path("results") / step.key, order, step.name, step.group)
        for order, step in enumerate(steps)
        if Path(step.manifest).exists()
    ]


if __name__ == "__main__":
    run_as_program(main)
