"""Batch sizes over a batch-size warm-up, as pieces, so that a segment depends only on those within its span."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smolmake.recipe.pretraining import Pretraining

BatchPiece = list[int]  # first step, sequences a step, sequences before that step


def batch_pieces(pretraining: Pretraining) -> list[BatchPiece]:
    """Batch sizes of the first stage: a piece for each part of the warm-up, then the full batch."""
    pieces, step, sequences = [], 0, 0
    for part in pretraining.batch_warmup:
        pieces.append([step, part.global_batch, sequences])
        step, sequences = step + part.steps, sequences + part.steps * part.global_batch
    return [*pieces, [step, pretraining.global_batch, sequences]]


def batches_within(pieces: list[BatchPiece], start: int, end: int) -> list[BatchPiece]:
    """The pieces that steps [start, end) use; a piece that began before is cut to the span."""
    ends = [piece[0] for piece in pieces[1:]] + [end]
    used = [piece for piece, last in zip(pieces, ends, strict=True) if piece[0] < end and last > start]
    return [[max(first, start), size, before + max(start - first, 0) * size] for first, size, before in used]


def batch_at(pieces: list[BatchPiece], step: int) -> tuple[int, int]:
    """The batch size of a step, and how many sequences come before it. A step at a span's end counts as its last."""
    first, size, before = next(piece for piece in reversed(pieces) if piece[0] <= step)
    return size, before + (step - first) * size
