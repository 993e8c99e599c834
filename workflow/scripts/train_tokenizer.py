"""Train a byte-level BPE tokenizer on the cleaned sources, or take one that exists. Usage: train_tokenizer.py JOB"""

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from smolmake.data.tokenizer import fetch_tokenizer, load_tokenizer, tokenizer_config, train_bpe, training_texts
from smolmake.errors import UserError
from smolmake.files import write_json
from smolmake.program import Job, run_step

FILES = ("tokenizer.json", "tokenizer_config.json")


def compute(job: Job) -> None:
    if "base" in job.inputs:
        take(job.input("base") / "checkpoint", job.folder)
    elif "path" in job.spec:
        take(Path(job.spec["path"]), job.folder)
    elif "hub" in job.spec:
        take(fetch_tokenizer(job.spec["hub"], job.spec["revision"], job.folder / "hub"), job.folder)
    else:
        train(job)
    size = load_tokenizer(job.folder).get_vocab_size()
    if size != job.spec.get("vocab_size", size):
        raise UserError(
            f"this tokenizer has {size:,} entries", key="tokenizer.vocab_size", value=job.spec["vocab_size"],
            remedy=f"write `vocab_size: {size}`: the model's size follows from it",
        )  # fmt: skip
    job.finish(list(FILES), {"vocab_size": size})


def train(job: Job) -> None:
    sources = [
        pq.read_table(folder / "documents.parquet", columns=["text"])["text"].to_pylist()
        for _, folder in sorted(job.group("documents").items())
    ]
    tokenizer = train_bpe(training_texts(sources, job.spec["characters"]), job.spec["vocab_size"])
    tokenizer.save(str(job.folder / "tokenizer.json"))
    write_json(job.folder / "tokenizer_config.json", tokenizer_config(max_length=10**9))


def take(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files."""
    if not (source / "tokenizer.json").is_file():
        raise UserError(
            "there is no tokenizer.json in this folder", file=source, key="tokenizer.path",
            remedy="save it with transformers' fast tokenizers: tokenizer.save_pretrained(FOLDER)",
        )  # fmt: skip
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    if (source / "tokenizer_config.json").is_file():
        shutil.copyfile(source / "tokenizer_config.json", folder / "tokenizer_config.json")
    else:
        write_json(folder / "tokenizer_config.json", tokenizer_config(max_length=10**9))


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
