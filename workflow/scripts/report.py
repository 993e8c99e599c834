"""Write the report of a recipe from its finished steps. Usage: report.py RECIPE MANIFEST"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from smolmake.errors import run_as_program
from smolmake.execution.job import read_job
from smolmake.execution.lease import hold
from smolmake.execution.manifest import MANIFEST, write_manifest
from smolmake.execution.step import Run
from smolmake.graph.specs.evaluate import ReportSpec
from smolmake.planning.plan import make_plan
from smolmake.planning.workflow import check_unchanged, load_workflow
from smolmake.report.artifacts import artefacts_of, graph_of
from smolmake.report.page import write_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("manifest", help="the manifest to write, as the graph names it")
    arguments = parser.parse_args()
    started = time.time()
    workflow = load_workflow(arguments.recipe, Path.cwd())
    step = workflow.steps.of_kind("report")[0]
    check_unchanged(workflow, step.manifest, arguments.manifest)
    folder = Path("results") / step.key
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {role: Path(other.manifest) for role, other in step.inputs.items()}
    with hold(folder, folder / MANIFEST):  # another one's report is written anew: more may be finished by now
        job = read_job(workflow.job_of(step), ReportSpec, Run)
        replace(job, folder=folder, inputs=inputs).record_identity(Path(__file__))
        graph = graph_of(make_plan(workflow), leave_out="report")
        sources = write_report(artefacts_of(workflow), graph, workflow.recipe, folder)
        payload = [folder / "report.html", folder / "sources.json"]
        identity = {"kind": step.kind, "name": step.name, "id": step.id}
        about = {"recipe": workflow.recipe.name, "gpus": 0}
        write_manifest(folder, identity, inputs, payload, {"figures": len(sources)}, started, about=about)


if __name__ == "__main__":
    run_as_program(main)
