"""GPU-hours of a whole project, line by line: the main run, ablations, restarts, evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from smolmake.errors import UserError


@dataclass(frozen=True)
class TrainingLine:
    """A line of training: its spans, each a number of GPUs and of days."""

    name: str
    spans: tuple[tuple[float, float], ...]

    @property
    def gpu_hours(self) -> float:
        """Sum over the spans of GPUs x days x 24."""
        for gpus, days in self.spans:
            _check(self.name, "gpus", gpus)
            _check(self.name, "days", days)
        return sum(gpus * days * 24 for gpus, days in self.spans)


@dataclass(frozen=True)
class EvaluationLine:
    """A line of evaluation: how often it runs and what one run takes."""

    name: str
    runs: float
    gpu_hours_each: float

    @property
    def gpu_hours(self) -> float:
        _check(self.name, "runs", self.runs)
        _check(self.name, "gpu_hours_each", self.gpu_hours_each)
        return self.runs * self.gpu_hours_each


Line = TrainingLine | EvaluationLine


def evaluation_runs(tokens: float, every: float) -> int:
    """Checkpoints to evaluate in a run over `tokens`, one after every `every` tokens."""
    _check("evaluation", "every", every, positive=True)
    _check("evaluation", "tokens", tokens)
    return math.floor(tokens / every)


def total_gpu_hours(lines: Sequence[Line]) -> float:
    return sum(line.gpu_hours for line in lines)


def budget_table(lines: Sequence[Line]) -> str:
    """The lines with their inputs, GPU-hours and share of the total, as text."""
    total = total_gpu_hours(lines)
    width = max([len(line.name) for line in lines] + [len("total")])
    rows = [f"{'':<{width}}  {'from':<24}{'GPU-hours':>12}{'share':>8}"]
    for line in lines:
        share = line.gpu_hours / total if total else 0.0
        rows.append(f"{line.name:<{width}}  {_inputs(line):<24}{line.gpu_hours:>12,.0f}{share:>8.1%}")
    return "\n".join([*rows, f"{'total':<{width}}  {'':<24}{total:>12,.0f}{1:>8.1%}"])


def _inputs(line: Line) -> str:
    if isinstance(line, EvaluationLine):
        return f"{line.runs:,g} x {line.gpu_hours_each:g} h"
    return " + ".join(f"{gpus:,g} GPUs x {days:g} d" for gpus, days in line.spans)


def _check(line: str, key: str, value: float, positive: bool = False) -> None:
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise UserError(
            f"budget line `{line}`: not a possible number",
            key=key,
            value=value,
            remedy=f"give a finite number {'above' if positive else 'not below'} 0",
        )
