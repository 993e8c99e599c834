"""How many evaluation items stand in documents or shards that nothing is dropped from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from smolmake.data.clean import iterate_texts
from smolmake.data.decontaminate import Contamination
from smolmake.data.ngrams import words_of
from smolmake.data.token_shards import open_shards
from smolmake.data.tokenizer import load_tokenizer
from smolmake.execution.job import Job
from smolmake.execution.step import Run
from smolmake.files import write_json
from smolmake.graph.specs.data import OverlapSpec

BATCH = 256


def measure_overlap(job: Job[OverlapSpec, Run], items: dict[str, list[str]]) -> None:
    contamination = Contamination(items, job.spec.ngram)
    texts = iterate_texts(job.input("documents")) if "documents" in job.inputs else decoded(job)
    read = found = 0
    while batch := list(islice(texts, BATCH)):
        read += len(batch)
        found += 0 if contamination.empty else len(contamination.found_in(words_of(batch)))
    overlap = {
        task: {key.replace("dropped", "found"): count for key, count in counts.items()}
        for task, counts in contamination.summary().items()
    }
    write_json(job.folder / "overlap.json", {"read": read, "contaminated": found, "overlap": overlap})
    job.finish(["overlap.json"], {"read": read, "contaminated": found})


def decoded(job: Job[OverlapSpec, Run]) -> Iterator[str]:
    """The texts of token shards that were adopted, from their tokens."""
    tokenizer = load_tokenizer(job.input("tokenizer"))
    shards = open_shards(job.input("shards"), job.facts("shards"))
    for number in range(len(shards.sizes)):
        part = shards.part(number)
        for begin, end in zip(part.offsets[:-1].tolist(), part.offsets[1:].tolist(), strict=True):
            yield tokenizer.decode(part.tokens[begin:end].tolist())
