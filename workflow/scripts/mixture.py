"""Build the order of sources of one stage; no token is copied. Usage: mixture.py JOB"""

from smolmake.data.stage_mixture import build_mixture
from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.graph.specs.data import MixtureSpec


def compute(job: Job[MixtureSpec, Run]) -> None:
    build_mixture(job)


if __name__ == "__main__":
    run_step(compute, MixtureSpec, Run, __doc__ or "")
