"""Train a byte-level BPE tokenizer on the cleaned sources, or take one that exists. Usage: tokenizer.py JOB"""

from smolmake.data.clean import iterate_texts
from smolmake.data.taken_tokenizer import take_tokenizer
from smolmake.data.tokenizer import load_tokenizer, splits_digits, tokenizer_config, train_bpe, training_texts
from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.files import write_json
from smolmake.graph.specs.data import TokenizerSpec


def compute(job: Job[TokenizerSpec, Run]) -> None:
    if job.spec.characters is not None and job.spec.vocab_size is not None:
        train(job, job.spec.characters, job.spec.vocab_size)
    elif "base" in job.inputs:
        take_tokenizer(TokenizerSpec(path=str(job.input("base") / "checkpoint")), job.folder)
    else:
        take_tokenizer(job.spec, job.folder)
    size = load_tokenizer(job.folder).get_vocab_size()
    job.finish(["tokenizer.json", "tokenizer_config.json"], {"vocab_size": size})


def train(job: Job[TokenizerSpec, Run], characters: int, vocab_size: int) -> None:
    sources = [iterate_texts(folder) for _, folder in sorted(job.group("documents").items())]
    tokenizer = train_bpe(training_texts(sources, characters), vocab_size)
    if not splits_digits(tokenizer):
        raise AssertionError("the tokenizer merges digits")
    tokenizer.save(str(job.folder / "tokenizer.json"))
    write_json(job.folder / "tokenizer_config.json", tokenizer_config(max_length=10**9))


if __name__ == "__main__":
    run_step(compute, TokenizerSpec, Run, __doc__ or "")
