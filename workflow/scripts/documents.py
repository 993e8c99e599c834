"""Filter, deduplicate and decontaminate one source, and hold documents out. Usage: documents.py JOB"""

from smolmake.data.clean_source import clean_source
from smolmake.evaluate.items import items_of
from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.graph.specs.data import DocumentsSpec


def compute(job: Job[DocumentsSpec, Run]) -> None:
    clean_source(job, items_of(job))


if __name__ == "__main__":
    run_step(compute, DocumentsSpec, Run, __doc__ or "")
