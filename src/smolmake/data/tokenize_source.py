"""The documents of one source as token shards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from smolmake.data.clean import document_parts, documents_in_part, iterate_texts
from smolmake.data.encoder import Encoder, Mismatch, make_encoder
from smolmake.data.token_shards import join_facts, write_shards
from smolmake.data.tokenizer import check_round_trip, load_tokenizer
from smolmake.execution.job import Job
from smolmake.execution.parts import part_record
from smolmake.execution.step import Run
from smolmake.graph.specs.data import ShardsSpec
from smolmake.monitoring.progress import Progress

SLOW = "reference-only"
SAMPLE, SAMPLE_CHARACTERS = 100, 2000


def tokenize_source(job: Job[ShardsSpec, Run]) -> None:
    tokenizer = load_tokenizer(job.input("tokenizer"))
    documents = job.input("documents")
    count = len(document_parts(documents))
    slow = job.folder / SLOW  # left where the fast encoder was found wrong: none of its work is used then
    encoders: dict[bool, Encoder] = {}

    def texts(number: int) -> Iterator[str]:
        label = f"tokenizing {job.name}" + (f" part {number + 1} of {count}" if count > 1 else "")
        progress = Progress(label, documents_in_part(documents, number), "documents")
        for text in iterate_texts(documents, number):
            yield text
            progress.add(1)

    def work(number: int, folder: Path) -> dict[str, Any]:
        while True:
            fast = not slow.exists()
            if fast not in encoders:
                encoders[fast] = make_encoder(tokenizer, job.spec.special_tokens, fast)
            try:
                return write_shards(folder, texts(number), tokenizer, encoders[fast]) | {"encoder": encoders[fast].name}
            except Mismatch as error:
                print(f"{error}: tokenizers does all the work of this step", file=sys.stderr)
                slow.touch()

    def valid(record: dict[str, Any]) -> bool:
        return not slow.exists() or record["facts"]["encoder"] == "tokenizers"

    sample = [text[:SAMPLE_CHARACTERS] for text in islice(iterate_texts(documents), SAMPLE)]
    if changed := check_round_trip(tokenizer, sample):
        print(f"{changed} of {len(sample)} texts do not come back from their tokens as they were", file=sys.stderr)
    if not job.parts(count, work, valid):
        return
    records = [part_record(job.folder, number) for number in range(count)]
    facts = join_facts([record["facts"] for record in records if record is not None])
    job.finish_parts(count, [], facts)
