"""Compare tokenizers on held-out text by source. Usage: tokenizer_comparison.py JOB"""

from itertools import islice

import pyarrow.parquet as pq

from smolmake.data.clean import iterate_texts
from smolmake.data.tokenizer import load_tokenizer
from smolmake.data.tokenizer_comparison import analyse
from smolmake.execution.job import Job, run_step
from smolmake.files import write_json

DOCUMENTS = 60


def compute(job: Job) -> None:
    rows = []
    tokenizers = {name: load_tokenizer(folder) for name, folder in sorted(job.group("tokenizer").items())}
    for source, folder in sorted(job.group("documents").items()):
        texts = pq.read_table(folder / "heldout.parquet")["text"].to_pylist()[:DOCUMENTS]
        texts = texts or list(islice(iterate_texts(folder), DOCUMENTS))
        for name, tokenizer in tokenizers.items():
            about = job.spec["sources"][source]
            rows.append({"tokenizer": name, "source": source, **about, **analyse(tokenizer, texts, about["language"])})
    write_json(job.folder / "analysis.json", {"chosen": job.spec["chosen"], "rows": rows})
    job.finish(["analysis.json"], {"tokenizers": sorted(tokenizers)})


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
