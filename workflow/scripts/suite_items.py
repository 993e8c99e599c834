"""Gather the items of suites' tasks through the harness, for decontamination. Usage: suite_items.py JOB"""

from smolmake.evaluate.harness_tasks import suite_items
from smolmake.evaluate.items import ITEMS, write_items
from smolmake.evaluate.questions import question_items
from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.graph.specs.data import SuiteItemsSpec


def compute(job: Job[SuiteItemsSpec, Run]) -> None:
    items = suite_items(job.spec.tasks, revisions=job.spec.revisions) if job.spec.tasks else {}
    for number, questions in enumerate(job.spec.questions or ()):
        role = f"data:{number}"
        for name, texts in question_items(questions, job.input(role) if role in job.inputs else None).items():
            items.setdefault(name, []).extend(texts)
    count = write_items(job.folder / ITEMS, items)
    job.finish([ITEMS], {"tasks": len(items), "items": count})


if __name__ == "__main__":
    run_step(compute, SuiteItemsSpec, Run, __doc__ or "")
