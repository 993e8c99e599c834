"""Check the devices, the network, the storage and a layout before it trains. Usage: [torchrun ...] preflight.py JOB"""

from smolmake.execution.job import Job, run_step
from smolmake.graph.specs import PreflightRun, PreflightSpec
from smolmake.preflight.checks import run_checks


def compute(job: Job) -> None:
    run = PreflightRun.model_validate({key: value for key, value in job.run.items() if key != "launcher"})
    run_checks(job, PreflightSpec.model_validate(job.spec), run)


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
