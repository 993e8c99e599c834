"""Count the evaluation items in a source's documents without dropping any. Usage: overlap.py JOB"""

from smolmake.data.overlap import measure_overlap
from smolmake.evaluate.items import items_of
from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.graph.specs.data import OverlapSpec


def compute(job: Job[OverlapSpec, Run]) -> None:
    measure_overlap(job, items_of(job))


if __name__ == "__main__":
    run_step(compute, OverlapSpec, Run, __doc__ or "")
