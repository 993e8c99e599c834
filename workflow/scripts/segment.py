"""Train one segment of pretraining or of a long-context extension. Usage: [torchrun ...] segment.py JOB"""

from smolmake.execution.job import Job, run_step
from smolmake.graph.specs.pretrain import SegmentRun, SegmentSpec
from smolmake.train.segment import train_segment


def compute(job: Job[SegmentSpec, SegmentRun]) -> None:
    train_segment(job)


if __name__ == "__main__":
    run_step(compute, SegmentSpec, SegmentRun, __doc__ or "")
