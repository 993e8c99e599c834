"""Compare tokenizers on held-out text by source. Usage: tokenizer_comparison.py JOB"""

from smolmake.data.tokenizer_comparison import compare_tokenizers
from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.graph.specs.data import TokenizerComparisonSpec


def compute(job: Job[TokenizerComparisonSpec, Run]) -> None:
    compare_tokenizers(job)


if __name__ == "__main__":
    run_step(compute, TokenizerComparisonSpec, Run, __doc__ or "")
