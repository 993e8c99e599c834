"""Check the devices, the network, the storage and a layout before it trains. Usage: [torchrun ...] preflight.py JOB"""

from smolmake.execution.job import Job, run_step
from smolmake.graph.specs.pretrain import PreflightRun, PreflightSpec
from smolmake.preflight.checks import run_checks


def compute(job: Job[PreflightSpec, PreflightRun]) -> None:
    run_checks(job)


if __name__ == "__main__":
    run_step(compute, PreflightSpec, PreflightRun, __doc__ or "")
