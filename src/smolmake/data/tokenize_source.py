"""The documents of one source as token shards."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from smolmake.data.clean import document_parts, documents_in_part, iterate_texts
from smolmake.data.encoder import REFERENCE, Encoder, Mismatch, make_encoder
from smolmake.data.token_shards import join_facts, write_shards
from smolmake.data.tokenizer import check_round_trip, load_tokenizer
from smolmake.execution.job import Job
from smolmake.execution.parts import part_record
from smolmake.execution.step import Run
from smolmake.graph.specs.data import ShardsSpec
from smolmake.monitoring.progress import Progress

SLOW = "reference-only"  # a file that says why, where the fast encoder was found wrong: none of its work is used then
SAMPLE, SAMPLE_CHARACTERS = 100, 2000


def tokenize_source(job: Job[ShardsSpec, Run]) -> None:
    tokenizer = load_tokenizer(job.input("tokenizer"))
    documents = job.input("documents")
    count = len(document_parts(documents))
    # Helpers have this from the process that starts them. Both encoders start as many threads as it says.
    os.environ.setdefault("RAYON_NUM_THREADS", str(max(1, job.workers // max(1, count))))
    sample = [text[:SAMPLE_CHARACTERS] for text in islice(iterate_texts(documents), SAMPLE)]
    if changed := check_round_trip(tokenizer, sample):
        print(f"{changed} of {len(sample)} texts do not come back from their tokens as they were", file=sys.stderr)
    slow = job.folder / SLOW

    @cache
    def encoder(slow_because: str) -> Encoder:
        made = make_encoder(tokenizer, job.spec.special_tokens, slow_because, sample)
        if made.slow_because:
            print(f"{made.name} encodes, which is far slower: {made.slow_because}", file=sys.stderr)
        return made

    def texts(number: int) -> Iterator[str]:
        label = f"tokenizing {job.name}" + (f" part {number + 1} of {count}" if count > 1 else "")
        progress = Progress(label, documents_in_part(documents, number), "documents")
        for text in iterate_texts(documents, number):
            yield text
            progress.add(1)

    def work(number: int, folder: Path) -> dict[str, Any]:
        while True:
            used = encoder(slow.read_text() if slow.exists() else "")
            try:
                facts = write_shards(folder, texts(number), tokenizer, used)
                return facts | {"encoder": used.name, "slow_because": used.slow_because}
            except Mismatch as error:
                slow.write_text(str(error))

    def valid(record: dict[str, Any]) -> bool:
        return not slow.exists() or record["facts"]["encoder"] == REFERENCE

    if not job.parts(count, work, valid):
        return
    records = [record["facts"] for number in range(count) if (record := part_record(job.folder, number)) is not None]
    job.finish_parts(count, [], join_facts(records), about={"encoders": encoders_of(records)})


def encoders_of(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which encoder made how many of some parts, and why a slow one did, for provenance.json."""
    counts = Counter((part["encoder"], part["slow_because"]) for part in parts)
    return [{"encoder": name, "slow_because": why, "parts": count} for (name, why), count in sorted(counts.items())]
