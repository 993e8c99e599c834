"""Which benchmarks to read at a size: whether a score tells models apart beyond its noise, grows, and beats chance.

Signal, noise and their ratio as in "Signal and Noise" (Heineman et al. 2025, https://arxiv.org/abs/2508.13144);
monotonicity as in FineTasks (Kydlíček et al. 2024); three standard errors above chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean, pstdev

LAST = 5  # checkpoints at the end of a run, of which the noise is
FEWEST = 5  # checkpoints of which anything can be said
ERRORS = 3.0  # standard errors above chance
RATIO = 2.0  # of signal to noise
RISE = 0.5  # Spearman's correlation of score and step
ORDER = 0.8  # share of pairs in the same order at two budgets


def signal(finals: Sequence[float]) -> float:
    """The largest difference of scores that are to be told apart, over their mean."""
    return (max(finals) - min(finals)) / abs(fmean(finals))


def noise(scores: Sequence[float]) -> float:
    """The standard deviation of scores that should be alike, over their mean: a run's last ones, or those of seeds."""
    return pstdev(scores) / abs(fmean(scores))


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """The correlation of ranks; equal values share their mean rank. 0 where one of both does not change."""
    a, b = _ranks(first), _ranks(second)
    spread = math.sqrt(sum((x - fmean(a)) ** 2 for x in a) * sum((y - fmean(b)) ** 2 for y in b))
    return sum((x - fmean(a)) * (y - fmean(b)) for x, y in zip(a, b, strict=True)) / spread if spread else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    return [sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
            for value in values]  # fmt: skip


def order_kept(small: Sequence[float], large: Sequence[float]) -> float:
    """The share of pairs of models that two budgets order alike (the decision accuracy); a tie is half a pair."""
    pairs = list(combinations(range(len(small)), 2))
    kept = 0.0
    for i, j in pairs:
        product = (small[i] - small[j]) * (large[i] - large[j])
        kept += 0.5 if product == 0 else float(product > 0)
    return kept / len(pairs)


@dataclass(frozen=True)
class ScoreHistory:
    """A score over a run's checkpoints, in their order; `error` is the last one's standard error over items.

    `others` are scores of other models of the size, `seeds` those of runs that differ in their seed alone, `budgets`
    those of the same models at a smaller and a larger budget. Each may be empty.
    """

    values: Sequence[float]
    error: float
    chance: float = 0.0
    higher_is_better: bool = True
    others: Sequence[float] = ()
    seeds: Sequence[float] = ()
    budgets: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Advice:
    """What the history of a score says, None where it says nothing, and why the score is not worth reading."""

    signal: float | None
    noise: float | None
    seed_noise: float | None
    monotonicity: float
    above_chance: float | None
    order: float | None
    reasons: list[str] = field(default_factory=list)

    @property
    def read(self) -> bool:
        return not self.reasons

    @property
    def ratio(self) -> float | None:
        """Signal to noise, of the larger noise; infinite without noise."""
        noises = [each for each in (self.noise, self.seed_noise) if each is not None]
        if self.signal is None or not noises:
            return None
        if not max(noises):
            return math.inf if self.signal else 0.0
        return self.signal / max(noises)


def advise(history: ScoreHistory) -> Advice | None:
    """Whether a score is to be read; None of fewer checkpoints than can tell.

    Its signal is the spread over other models of the size; without any, over the run itself.
    """
    values, sign = history.values, 1 if history.higher_is_better else -1
    if len(values) < FEWEST:
        return None
    last = values[-LAST:]
    compared = [values[-1], *history.others] if history.others else values
    has_chance = history.chance > 0 and history.higher_is_better
    advice = Advice(
        signal=signal(compared) if fmean(compared) else None,
        noise=noise(last) if fmean(last) else None,
        seed_noise=noise(history.seeds) if len(history.seeds) > 1 and fmean(history.seeds) else None,
        monotonicity=sign * spearman(range(len(values)), values),
        above_chance=(fmean(last) - history.chance) / history.error if has_chance and history.error else None,
        order=order_kept(*zip(*history.budgets, strict=True)) if len(history.budgets) > 1 else None,
    )
    advice.reasons.extend(_against(advice))
    return advice


def _against(advice: Advice) -> list[str]:
    reasons = []
    if advice.above_chance is not None and advice.above_chance < ERRORS:
        reasons.append("not above chance")
    if advice.monotonicity < RISE:
        reasons.append("does not improve steadily")
    if advice.ratio is None:
        reasons.append("is zero")
    elif advice.ratio < RATIO:
        reasons.append("drowned by its noise")
    if advice.order is not None and advice.order < ORDER:
        reasons.append("ranks models otherwise at another budget")
    return reasons
