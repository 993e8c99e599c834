"""Batches of a training step, made from the samples at its positions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolmake.data.mixture import Mixture, Place, make_mixture
from smolmake.data.packing import pack_onto
from smolmake.data.token_shards import Shards, open_shards
from smolmake.execution.manifest import MANIFEST, read_manifest, verify_payload
from smolmake.execution.node_cache import stage
from smolmake.model.config import IGNORED_LABEL
from smolmake.recipe.schedule import BatchPiece, batch_at

AHEAD = 8192  # positions worked out at a time, at most
Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BatchReader:
    """Reads the global batch of any step of a stage."""

    mixture: Mixture
    shards: dict[str, Shards]
    global_batch_size: int
    stage_start: int
    batches: Sequence[BatchPiece] | None = None  # batch sizes over a warm-up, see recipe/schedule.py
    available: dict[str, int] = field(init=False)
    drawn: dict[int, list[tuple[int, int]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        length = self.mixture.sequence_length
        available = {name: self.shards[name].sequences(length) for name in self.mixture.names}
        object.__setattr__(self, "available", available)

    def span(self, step: int) -> tuple[int, int]:
        """The number of sequences of a step's global batch, and the position of the first in the stage's stream."""
        if self.batches is not None:
            return batch_at(self.batches, step)
        return self.global_batch_size, (step - self.stage_start) * self.global_batch_size

    def batch(self, step: int, rows: range | None = None) -> tuple[Array, Array, Array]:
        """Inputs, labels and document numbers [B, T] of optimizer step `step` of the run: all rows, or one device's.

        A document's first token is no target: its label is -100, as in SmolLM3.
        """
        size, start = self.span(step)
        rows = range(size) if rows is None else rows
        length = self.mixture.sequence_length
        block = np.empty((3, len(rows), length + 1), dtype=np.int64)  # one block: the system gives it in large pages
        tokens, labels, documents = block
        firsts = []  # where in the flat labels a document's first token stands
        for row, (source, sequence) in enumerate(self._drawn(start + rows.start, len(rows))):
            numbers, borders = self.shards[self.mixture.names[source]].sequence(sequence, tokens[row])
            documents[row] = numbers.repeat(borders[1:] - borders[:-1])
            labels[row, :-1] = tokens[row, 1:]  # now, while a cache holds the row
            firsts.append(borders[1:-1] + (row * (length + 1) - 1))
        if firsts:
            labels.reshape(-1)[np.concatenate(firsts)] = IGNORED_LABEL
        return tokens[:, :-1], labels[:, :-1], documents[:, :-1]

    def _drawn(self, start: int, count: int) -> list[tuple[int, int]]:
        """Source and sequence at `count` positions; who reads on and on has ever more worked out at a time."""
        found: list[tuple[int, int]] = []
        while len(found) < count:
            at, wanted = start + len(found), count - len(found)
            ((first, drawn),) = self.drawn.items() or [(at, [])]
            if not first <= at < first + len(drawn):
                size = min(2 * len(drawn), AHEAD) if at == first + len(drawn) else 0
                places = self.mixture.places(np.arange(at, at + max(size, wanted)), self.available)
                first, drawn = at, list(zip(places.source.tolist(), places.sequence.tolist(), strict=True))
                self.drawn.clear()
                self.drawn[first] = drawn
            found += drawn[at - first : at - first + wanted]
        return found

    def place(self, step: int, row: int) -> tuple[Place, list[int]]:
        """Where row `row` of a step comes from, and the numbers of the documents that it holds a part of."""
        place = self.mixture.place(self.span(step)[1] + row, self.available)
        shards = self.shards[place.source]
        numbers, _ = shards.sequence(place.sequence, np.empty(self.mixture.sequence_length + 1, dtype=np.int64))
        return place, numbers[numbers < shards.documents].tolist()

    def steps_of(self, source: str, document: int, end: int) -> list[tuple[int, int]]:
        """The (step, row) pairs before step `end` that hold a token of a document as input or label."""
        positions = [
            position
            for sequence in self.shards[source].sequences_of(document, self.mixture.sequence_length)
            for position in self.mixture.positions(source, sequence, self.available[source], self.span(end)[1])
        ]
        return [self._step_at(position) for position in sorted(positions)]

    def _step_at(self, position: int) -> tuple[int, int]:
        """The step and row of a position in the stage's stream."""
        pieces = self.batches or [BatchPiece(start=self.stage_start, size=self.global_batch_size, sequences_before=0)]
        piece = next(piece for piece in reversed(pieces) if piece.sequences_before <= position)
        step, row = divmod(position - piece.sequences_before, piece.size)
        return piece.start + step, row


def open_mixture(folder: Path) -> tuple[Mixture, dict[str, Any]]:
    """A mixture from its artefact, with the content of mixture.json."""
    description = json.loads((folder / "mixture.json").read_text())
    return make_mixture(description, np.load(folder / "pattern.npy")), description


def open_mixture_shards(
    description: dict[str, Any], results: Path, scratch: Path | None = None, neighbours: Sequence[Path] = ()
) -> dict[str, Shards]:
    """The shards that mixture.json names, with their packing if it names one; their sizes are checked. The mixture's
    step checked their content.

    With `scratch`, a folder on the node's own disk, they are copied there first, as `stage` says.
    """

    def opened(artefact: str) -> tuple[Path, dict[str, Any]]:
        manifest = results / artefact / MANIFEST
        if scratch is not None:
            manifest = stage(manifest, scratch, neighbours) / MANIFEST
        verify_payload(manifest, content=False)
        return manifest.parent, read_manifest(manifest)["facts"]

    shards: dict[str, Shards] = {}
    for name, about in description["sources"].items():
        shards[name] = open_shards(*opened(about["shards"]))
        if "packing" in about:
            shards[name] = pack_onto(shards[name], *opened(about["packing"]))
    return shards
