"""Train a byte-level BPE tokenizer on the cleaned sources, or take one that exists. Usage: tokenizer.py JOB"""

from smolmake.data.clean import iterate_texts
from smolmake.data.taken_tokenizer import take_tokenizer
from smolmake.data.tokenizer import load_tokenizer, splits_digits, tokenizer_config, train_bpe, training_texts
from smolmake.execution.job import Job, run_step
from smolmake.files import write_json


def compute(job: Job) -> None:
    if "characters" in job.spec:
        train(job)
    else:
        base = {"path": str(job.input("base") / "checkpoint")} if "base" in job.inputs else {}
        take_tokenizer({**job.spec, **base}, job.folder)
    size = load_tokenizer(job.folder).get_vocab_size()
    job.finish(["tokenizer.json", "tokenizer_config.json"], {"vocab_size": size})


def train(job: Job) -> None:
    sources = [iterate_texts(folder) for _, folder in sorted(job.group("documents").items())]
    tokenizer = train_bpe(training_texts(sources, job.spec["characters"]), job.spec["vocab_size"])
    if not splits_digits(tokenizer):
        raise AssertionError("the tokenizer merges digits")
    tokenizer.save(str(job.folder / "tokenizer.json"))
    write_json(job.folder / "tokenizer_config.json", tokenizer_config(max_length=10**9))


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
