"""Count what each stage draws of each source, and check it against the repeat caps. Usage: epochs.py JOB"""

from smolmake.data.epochs import count_epochs
from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.graph.specs.data import EpochsSpec


def compute(job: Job[EpochsSpec, Run]) -> None:
    count_epochs(job)


if __name__ == "__main__":
    run_step(compute, EpochsSpec, Run, __doc__ or "")
