"""The learning rate as a list of pieces, so that a segment depends only on the pieces within its span."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from smolmake.recipe.pretraining import Schedule

Piece = dict[str, Any]
Shape = Literal["linear", "cosine", "1-sqrt"]


def schedule_pieces(schedule: Schedule, total_steps: int) -> list[Piece]:
    """Warm-up, constant part, decay and constant tail as pieces {shape, from: [step, rate], to: [step, rate]}."""
    warmup = schedule.warmup_steps
    end = total_steps - sum(part.steps for part in schedule.tail)
    decay = end - warmup if schedule.decay_steps is None else schedule.decay_steps
    pieces = [
        _piece("linear", (0, 0.0), (warmup, schedule.peak)),
        _piece("linear", (warmup, schedule.peak), (end - decay, schedule.peak)),
        _piece(schedule.decay_shape, (end - decay, schedule.peak), (end, schedule.floor)),
    ]
    for part in schedule.tail:
        pieces.append(_piece("linear", (end, part.rate), (end + part.steps, part.rate)))
        end += part.steps
    return [piece for piece in pieces if piece["from"][0] < piece["to"][0]]


def within(pieces: list[Piece], start: int, end: int) -> list[Piece]:
    """The pieces that overlap steps [start, end); a constant piece is cut to the span, since its rest cannot matter."""
    result = []
    for piece in pieces:
        (first, rate), (last, final_rate) = piece["from"], piece["to"]
        if first < end and last > start:
            if rate == final_rate:
                piece = _piece("linear", (max(first, start), rate), (min(last, end), rate))
            result.append(piece)
    return result


def learning_rate(pieces: list[Piece], step: int) -> float:
    """The rate of optimizer step number `step` (from 0).

    Warm-up gives step s the rate peak * (s + 1) / warmup, so the first step is not lost on a rate of 0. A decay
    gives `linear`, `cosine` (Loshchilov and Hutter 2017) or `1-sqrt` (Hägele et al. 2024) interpolation.
    """
    for piece in pieces:
        (first, rate), (last, final_rate) = piece["from"], piece["to"]
        if first <= step < last:
            done = (step + (1 if final_rate > rate else 0) - first) / (last - first)
            return float(rate + (final_rate - rate) * _progress(piece["shape"], done))
    raise ValueError(f"step {step} is outside the schedule {pieces}")


def _progress(shape: Shape, done: float) -> float:
    if shape == "cosine":
        return (1 - math.cos(math.pi * done)) / 2
    if shape == "1-sqrt":
        return math.sqrt(done)
    return done


def _piece(shape: Shape, start: tuple[int, float], end: tuple[int, float]) -> Piece:
    return {"shape": shape, "from": list(start), "to": list(end)}
