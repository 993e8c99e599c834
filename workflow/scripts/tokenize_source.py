"""Encode one source's documents into token shards. Usage: tokenize_source.py JOB"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from smolmake.data.shards import write_shards
from smolmake.data.tokenizer import load_tokenizer
from smolmake.program import Job, run_step
from smolmake.progress import Progress


def texts(path: Path, label: str) -> Iterator[str]:
    file = pq.ParquetFile(path)
    progress = Progress(label, file.metadata.num_rows, "documents")
    for batch in file.iter_batches(batch_size=1024, columns=["text"]):
        yield from batch["text"].to_pylist()
        progress.add(len(batch))


def compute(job: Job) -> None:
    tokenizer = load_tokenizer(job.input("tokenizer"))
    documents = job.input("documents") / "documents.parquet"
    facts = write_shards(job.folder, texts(documents, f"tokenizing {job.name}"), tokenizer)
    job.finish(["tokens.bin", "offsets.npy"], facts)


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
