"""Train one segment of pretraining or of a long-context extension. Usage: [torchrun ...] segment.py JOB"""

from smolmake.execution.job import Job, run_step
from smolmake.graph.specs import SegmentRun, SegmentSpec
from smolmake.train.segment import train_segment


def compute(job: Job) -> None:
    run = SegmentRun.model_validate({key: value for key, value in job.run.items() if key != "launcher"})
    train_segment(job, SegmentSpec.model_validate(job.spec), run)


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
