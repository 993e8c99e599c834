"""Confidence intervals of 95 %, of one sample and of a difference between two. An estimate: value, low, high."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
Interval = tuple[float, float]
Estimate = tuple[float, float, float]


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927); (0, 1) without observations."""
    if n <= 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))  # rounding may miss 0 and 1


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean with its interval: Wilson's for values of 0 and 1, else the normal one of the standard error."""
    mean = math.fsum(values) / len(values)
    if all(value in (0.0, 1.0) for value in values):
        return (mean, *wilson(sum(values), len(values)))
    half = Z * float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return mean, mean - half, mean + half


def weighted_mean(estimates: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """Mean of estimates by weight; their distances to the limits are added as independent."""
    shares = [weight / sum(weights) for weight in weights]
    value = sum(share * each[0] for share, each in zip(shares, estimates, strict=True))
    below = math.hypot(*(share * (each[0] - each[1]) for share, each in zip(shares, estimates, strict=True)))
    above = math.hypot(*(share * (each[2] - each[0]) for share, each in zip(shares, estimates, strict=True)))
    return value, value - below, value + above


def difference(before: Estimate, after: Estimate) -> Interval:
    """Interval of after - before by squaring and adding the distances to the limits of the two intervals.

    For Wilson's intervals this is Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10). It
    takes the two as independent: where both were measured on the same items, it is wider than it need be.
    """
    change = after[0] - before[0]
    low = change - math.hypot(after[0] - after[1], before[2] - before[0])
    high = change + math.hypot(after[2] - after[0], before[0] - before[1])
    return low, high


def paired_difference(
    before: Sequence[float], after: Sequence[float], sizes: Sequence[float] | None = None
) -> Interval | None:
    """Bootstrap interval of the mean of after - before over the same items; None where there is nothing to pair.

    With `sizes`, the sum of the differences divided by that of the sizes.
    """
    if not before or len(before) != len(after):
        return None
    change = np.asarray(after) - np.asarray(before)
    return bootstrap_ratio(change, np.ones(len(change)) if sizes is None else sizes, resamples=4000)


def sign_test(gained: int, lost: int) -> float:
    """Two-sided p of the exact sign test; of questions that are right or wrong it is McNemar's (1947), exact."""
    n, fewer = gained + lost, min(gained, lost)
    return float(min(1, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / (1 << n)))


def bootstrap_ratio(
    numerators: Sequence[float] | np.ndarray,
    denominators: Sequence[float] | np.ndarray,
    seed: int = 0,
    resamples: int = 1000,
) -> Interval:
    """Percentile bootstrap over items of sum(numerators) / sum(denominators)."""
    top, bottom = np.asarray(numerators), np.asarray(denominators)
    picks = np.random.default_rng(seed).integers(0, len(top), size=(resamples, len(top)))
    ratios = top[picks].sum(axis=1) / bottom[picks].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
