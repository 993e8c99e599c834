"""Rows as token ids on disk: written once by the first process, read by all as they are needed, counted by source."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from datasets import Dataset

from smolmake.files import new_folder, write_json
from smolmake.posttrain.findings import told_checks
from smolmake.posttrain.rows import Conversation

ROWS, ARROW, ORDER, COUNTS = "rows", "rows.arrow", "order.npy", "counts.json"
BATCH = 1000  # rows that are written at a time


@dataclass
class RowCounts:
    """The rows of a source, and what became of them."""

    rows: int = 0  # that were read
    skipped: int = 0  # not in a form that can be trained, with `on_error: skip`
    used: int = 0  # drawn by `fraction`
    truncated: int = 0  # cut to `max_length`, and trained
    without_targets: int = 0  # nothing to learn in them within `max_length`: dropped
    trained: int = 0
    tokens: int = 0  # of the rows that are trained, prompts of pairs counted twice
    targets: int = 0  # of these, those that are learned
    lost: dict[str, int] = field(default_factory=dict)  # rows by the piece of them that the template may lose
    first_skipped: str = ""
    chosen_longer: int = 0  # pairs whose chosen answer has more tokens
    checks: dict[str, Any] = field(default_factory=dict)  # by name: rows, and the numbers of the first


@dataclass(frozen=True)
class TokenRow:
    """A row as TRL takes it, the length from which on it has a target, and the texts that it was rendered to."""

    columns: dict[str, list[int]]
    needs: int
    rendered: list[tuple[Conversation, str]]
    found: list[str]  # names of findings.CHECKS


@dataclass(frozen=True)
class TokenRows:
    """Rows that TRL trains, read from disk as they are needed, and how many of each source there are."""

    data: Dataset
    counts: dict[str, RowCounts]

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {"rows": len(self.data), "sources": {name: asdict(counted) for name, counted in self.counts.items()}}


def told_counts(counted: RowCounts) -> str:
    """One line: `1,200 rows, 3 skipped (row 5: ...), 1,100 trained, 17 truncated to max_length`."""
    parts = [f"{counted.rows:,} rows"]
    parts += [f"{counted.skipped:,} skipped ({counted.first_skipped})"] if counted.skipped else []
    parts += [f"{counted.used:,} used"] if counted.used != counted.rows - counted.skipped else []
    parts += [f"{counted.without_targets:,} without a target within max_length"] if counted.without_targets else []
    parts += [f"{counted.truncated:,} truncated to max_length"] if counted.truncated else []
    parts += [f"{rows:,} rows lose {name}" for name, rows in counted.lost.items()]
    parts += [f"{counted.trained:,} trained: {counted.tokens:,} tokens, {counted.targets:,} targets"]
    parts += [f"chosen longer in {counted.chosen_longer:,}"] if counted.chosen_longer else []
    return "; ".join([", ".join(parts), *told_checks(counted.checks)])


class TokenWriter:
    """An Arrow file of lists of token ids, written in batches. `numbers` are those of the rows in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.numbers = folder, list[int]()
        self.batch: list[dict[str, list[int]]] = []
        self.writer: pa.RecordBatchStreamWriter | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, number: int, columns: dict[str, list[int]]) -> None:
        self.numbers.append(number)
        self.batch.append(columns)
        if len(self.batch) == BATCH:
            self._flush()

    def _flush(self) -> None:
        schema = pa.schema({name: pa.list_(pa.int32()) for name in self.batch[0]})
        self.writer = self.writer or pa.ipc.new_stream(str(self.folder / ARROW), schema)
        self.writer.write_batch(pa.RecordBatch.from_pylist(self.batch, schema))
        self.batch = []

    def __exit__(self, *_: object) -> None:
        if self.batch:
            self._flush()
        if self.writer is not None:
            self.writer.close()

    def finish(self, order: list[int], counts: dict[str, RowCounts]) -> None:
        """Write the order in which the rows are trained, numbers of which some are in no row, and the counts."""
        places = {number: place for place, number in enumerate(self.numbers)}
        np.save(self.folder / ORDER, np.array([places[number] for number in order if number in places]))
        write_json(self.folder / COUNTS, {name: asdict(counted) for name, counted in counts.items()})


def token_rows(folder: Path, write: Callable[[Path], None]) -> TokenRows:
    """What `write` writes, once, by the first process; all read it from the step's folder."""
    place = folder / ROWS
    if not place.exists() and os.environ.get("RANK", "0") == "0":
        with new_folder(place) as beside:
            write(beside)
    while not place.exists():  # torchrun ends the others if the first one fails
        time.sleep(0.2)
    counts = {name: RowCounts(**counted) for name, counted in json.loads((place / COUNTS).read_text()).items()}
    return TokenRows(Dataset.from_file(str(place / ARROW)).select(np.load(place / ORDER)), counts)
