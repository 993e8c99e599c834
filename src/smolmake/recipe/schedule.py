"""Learning rates and batch sizes as lists of pieces, so that a segment depends only on those within its span."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from smolmake.recipe.types import Section

if TYPE_CHECKING:
    from smolmake.recipe.pretraining import Pretraining, Schedule

Shape = Literal["linear", "cosine", "1-sqrt"]


class SchedulePiece(Section):
    """Learning rates of steps [start, end), between those of its two ends."""

    shape: Shape
    start: int
    start_lr: float
    end: int
    end_lr: float


class BatchPiece(Section):
    """Steps from `start` on with batches of `size` sequences; the steps before it have read `sequences_before`."""

    start: int
    size: int
    sequences_before: int


def schedule_pieces(schedule: Schedule, total_steps: int) -> list[SchedulePiece]:
    """Warm-up, constant part, decay and constant tail."""
    peak, warmup = schedule.lr, schedule.warmup_steps
    end = total_steps - sum(part.steps for part in schedule.tail)
    decay = end - warmup if schedule.decay_steps is None else schedule.decay_steps
    pieces = [
        SchedulePiece(shape="linear", start=0, start_lr=0.0, end=warmup, end_lr=peak),
        SchedulePiece(shape="linear", start=warmup, start_lr=peak, end=end - decay, end_lr=peak),
        SchedulePiece(shape=schedule.decay_shape, start=end - decay, start_lr=peak, end=end, end_lr=schedule.min_lr),
    ]
    for part in schedule.tail:
        after = end + part.steps
        pieces.append(SchedulePiece(shape="linear", start=end, start_lr=part.lr, end=after, end_lr=part.lr))
        end = after
    return [piece for piece in pieces if piece.start < piece.end]


def within(pieces: Sequence[SchedulePiece], start: int, end: int) -> list[SchedulePiece]:
    """The pieces that overlap steps [start, end); a constant piece is cut to the span, since its rest cannot matter."""
    result = []
    for piece in pieces:
        if piece.start < end and piece.end > start:
            if piece.start_lr == piece.end_lr:
                cut = {"shape": "linear", "start": max(piece.start, start), "end": min(piece.end, end)}
                piece = piece.model_copy(update=cut)
            result.append(piece)
    return result


def learning_rate(pieces: Sequence[SchedulePiece], step: int) -> float:
    """The rate of optimizer step number `step` (from 0).

    Warm-up gives step s the rate peak * (s + 1) / warmup, so the first step is not lost on a rate of 0. A decay
    gives `linear`, `cosine` (Loshchilov and Hutter 2017) or `1-sqrt` (Hägele et al. 2024) interpolation.
    """
    for piece in pieces:
        if piece.start <= step < piece.end:
            rises = piece.end_lr > piece.start_lr
            done = (step + (1 if rises else 0) - piece.start) / (piece.end - piece.start)
            return float(piece.start_lr + (piece.end_lr - piece.start_lr) * _progress(piece.shape, done))
    raise ValueError(f"step {step} is outside the schedule {pieces}")


def _progress(shape: Shape, done: float) -> float:
    if shape == "cosine":
        return (1 - math.cos(math.pi * done)) / 2
    if shape == "1-sqrt":
        return math.sqrt(done)
    return done


def batch_pieces(pretraining: Pretraining) -> list[BatchPiece]:
    """Batch sizes of the first stage: a piece for each part of the warm-up, then the full batch."""
    pieces, step, sequences = [], 0, 0
    for part in pretraining.batch_warmup:
        pieces.append(BatchPiece(start=step, size=part.global_batch_size, sequences_before=sequences))
        step, sequences = step + part.steps, sequences + part.steps * part.global_batch_size
    return [*pieces, BatchPiece(start=step, size=pretraining.global_batch_size, sequences_before=sequences)]


def batches_within(pieces: Sequence[BatchPiece], start: int, end: int) -> list[BatchPiece]:
    """The pieces that steps [start, end) use; a piece that began before is cut to the span."""
    ends = [piece.start for piece in pieces[1:]] + [end]
    used = [piece for piece, last in zip(pieces, ends, strict=True) if piece.start < end and last > start]
    return [
        BatchPiece(
            start=max(piece.start, start),
            size=piece.size,
            sequences_before=piece.sequences_before + max(start - piece.start, 0) * piece.size,
        )
        for piece in used
    ]


def batch_at(pieces: Sequence[BatchPiece], step: int) -> tuple[int, int]:
    """The batch size of a step, and how many sequences come before it. A step at a span's end counts as its last."""
    piece = next(piece for piece in reversed(pieces) if piece.start <= step)
    return piece.size, piece.sequences_before + (step - piece.start) * piece.size
