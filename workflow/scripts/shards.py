"""Encode one source's documents into token shards. Usage: shards.py JOB"""

from smolmake.data.tokenize_source import tokenize_source
from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.graph.specs.data import ShardsSpec


def compute(job: Job[ShardsSpec, Run]) -> None:
    tokenize_source(job)


if __name__ == "__main__":
    run_step(compute, ShardsSpec, Run, __doc__ or "")
