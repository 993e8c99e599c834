"""How sure a score is: a bootstrap over items, the questions that several items ask, and what a guesser scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lm_eval.api.task import Task

from smolmake.stats import Interval, are_counts, guess_interval

RESAMPLES, OF_SLOW = 1000, 100  # of the bootstrap for what is no mean over items; of metrics that compare texts
SLOW = ("bleu", "chrf", "chrf++", "ter")


def bootstrapped(metric: str, rounds: list[list[Any]], aggregation: Callable[[list[Any]], float]) -> Interval:
    """Of what is no mean over items: a percentile bootstrap over items."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(OF_SLOW if metric in SLOW else RESAMPLES):
        picks = generator.integers(0, len(rounds[0]), len(rounds[0]))
        found.append(sum(aggregation([values[pick] for pick in picks]) for values in rounds) / len(rounds))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)


def question_clusters(task: Task, samples: list[dict[str, Any]]) -> list[int]:
    """The number of each item's question, where some questions have several items; else nothing."""
    numbers: dict[str, int] = {}
    found = []
    for sample in samples:
        question = task.doc_to_text(sample["doc"])
        if not isinstance(question, str) or not question:  # choices that are questions themselves, or none at all
            return []
        found.append(numbers.setdefault(question, len(numbers)))
    return found if len(numbers) < len(found) else []


def chance_of(task: Task, samples: list[dict[str, Any]]) -> float:
    """What a guesser scores: as the task's metadata says, else one of its choices."""
    metadata = getattr(task.config, "metadata", None) or {}
    if task.OUTPUT_TYPE != "multiple_choice" or "chance" in metadata:
        return float(metadata.get("chance", 0.0))
    return sum(1 / len(task.doc_to_choice(item["doc"])) for item in samples) / len(samples)


def guessed(chance: float, items: Sequence[float], repeats: int) -> dict[str, float]:
    """What a guesser scores, and between which scores 95 % of all guessers lie; of what is no count, chance alone."""
    counted = bool(items) and bool(chance) and are_counts(items, repeats)
    low, high = guess_interval(chance, len(items) * repeats) if counted else (chance, chance)
    return {"chance": chance, "chance_low": low, "chance_high": high}
