"""Write the report of a recipe from its finished steps. Usage: report.py JOB"""

import os
from pathlib import Path

from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.graph.specs.evaluate import ReportSpec
from smolmake.planning.plan import make_plan
from smolmake.planning.workflow import check_unchanged, load_workflow
from smolmake.report.artifacts import artefacts_of, graph_of
from smolmake.report.page import write_report
from smolmake.report.score_table import SCORES


def compute(job: Job[ReportSpec, Run]) -> None:
    workflow = load_workflow(job.recipe_file, Path.cwd())
    check_unchanged(workflow, workflow.steps.of_kind("report")[0].id, job.id)
    graph = graph_of(make_plan(workflow), leave_out="report")
    sources = write_report(artefacts_of(workflow), graph, workflow.recipe, job.folder, os.path.relpath(job.recipe_file))
    job.finish(["report.html", SCORES, "sources.json"], {"figures": len(sources)})


if __name__ == "__main__":
    run_step(compute, ReportSpec, Run, __doc__ or "")
