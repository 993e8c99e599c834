"""Confidence intervals of 95 %."""

from __future__ import annotations

import math

import numpy as np

Z = 1.959963984540054  # the normal distribution's 97.5 % quantile


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927); (0, 1) without observations."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean with its interval: Wilson's for values of 0 and 1, else the normal one of the standard error."""
    mean = math.fsum(values) / len(values)
    if all(value in (0.0, 1.0) for value in values):
        return (mean, *wilson(sum(values), len(values)))
    half = Z * float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return mean, mean - half, mean + half


def bootstrap_ratio(numerators: list[float], denominators: list[float], seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap over documents (1,000 resamples) of sum(numerators) / sum(denominators)."""
    top, bottom = np.asarray(numerators), np.asarray(denominators)
    picks = np.random.default_rng(seed).integers(0, len(top), size=(1000, len(top)))
    ratios = top[picks].sum(axis=1) / bottom[picks].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
