"""Compare tokenizers on held-out text by source. Usage: tokenizer_comparison.py JOB"""

from itertools import islice

import pyarrow.parquet as pq

from smolmake.data.clean import iterate_texts
from smolmake.data.tokenizer import load_tokenizer
from smolmake.data.tokenizer_comparison import analyse
from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.files import write_json
from smolmake.graph.specs.data import TokenizerComparisonSpec

DOCUMENTS = 60


def compute(job: Job[TokenizerComparisonSpec, Run]) -> None:
    rows = []
    tokenizers = {name: load_tokenizer(folder) for name, folder in sorted(job.group("tokenizer").items())}
    for source, folder in sorted(job.group("documents").items()):
        texts = pq.read_table(folder / "heldout.parquet")["text"].to_pylist()[:DOCUMENTS]
        texts = texts or list(islice(iterate_texts(folder), DOCUMENTS))
        for name, tokenizer in tokenizers.items():
            labels = job.spec.sources[source]
            rows.append(
                {
                    "tokenizer": name,
                    "source": source,
                    **labels.model_dump(),
                    **analyse(tokenizer, texts, labels.language),
                }
            )
    write_json(job.folder / "analysis.json", {"chosen": job.spec.chosen, "rows": rows})
    job.finish(["analysis.json"], {"tokenizers": sorted(tokenizers)})


if __name__ == "__main__":
    run_step(compute, TokenizerComparisonSpec, Run, __doc__ or "")
