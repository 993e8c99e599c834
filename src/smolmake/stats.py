"""Confidence intervals of 95 %, of one sample and of a difference between two. An estimate: value, low, high."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
Interval = tuple[float, float]
Estimate = tuple[float, float, float]


def wilson(successes: float, n: float) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927); (0, 1) without observations."""
    if n <= 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))  # rounding may miss 0 and 1


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, to 0.2 % (Abramowitz and Stegun 1964, 26.7.5; below 5 their table)."""
    if freedom < 5:
        return (math.inf, 12.706, 4.303, 3.182, 2.776)[max(freedom, 0)]
    terms: tuple[float, ...] = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
    )
    return Z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))


def mean_interval(values: Sequence[float], clusters: Sequence[int] = ()) -> Estimate:
    """Mean with the interval of its standard error by Student's t; without width for one value.

    `clusters` numbers what each value belongs to, such as its question: values of one are not independent, and the
    standard error is that of the sums of clusters (Miller, Adding Error Bars to Evals, arXiv:2411.00640, section 2.2).
    """
    mean, error, count = _clustered(values, clusters)
    half = t_quantile(count - 1) * error if error else 0.0
    return mean, mean - half, mean + half


def share_interval(values: Sequence[float], clusters: Sequence[int] = (), answers: int | None = None) -> Estimate:
    """Mean of values between 0 and 1 with an interval between 0 and 1.

    Wilson's: of independent values of 0 and 1 with their number, else with the number of such values that would have
    the same standard error (Korn and Graubard, Survey Methodology 24, 1998), at most `answers`, those of 0 and 1 whose
    means the values are.
    """
    mean, error, count = _clustered(values, clusters)
    if count == len(values) and all(value in (0.0, 1.0) for value in values):
        return (mean, *wilson(math.fsum(values), len(values)))
    if count < 2 or mean in (0.0, 1.0):
        return (mean, *wilson(mean * count, count))
    size = mean * (1 - mean) / error**2 * (Z / t_quantile(count - 1)) ** 2 if error else math.inf
    size = min(size, answers or math.inf)
    return (mean, *wilson(mean * size, size)) if math.isfinite(size) else (mean, mean, mean)


def item_interval(items: Sequence[float], clusters: Sequence[int], repeats: int, share: bool) -> Interval:
    """Of a mean over items, each of them a mean of so many answers."""
    if not share:
        return mean_interval(items, clusters)[1:]
    return share_interval(items, clusters, len(items) * repeats if are_counts(items, repeats) else None)[1:]


def are_counts(items: Sequence[float], repeats: int) -> bool:
    """Whether each item is the mean of so many answers that are right or wrong."""
    return all(math.isclose(item * repeats, round(item * repeats), abs_tol=1e-9) for item in items)


def guess_interval(chance: float, answers: int) -> Interval:
    """Between which scores 95 % of all guessers lie, of whom each gives so many answers and is right by chance."""
    half = Z * math.sqrt(chance * (1 - chance) / answers) if answers else 1.0
    return max(0.0, chance - half), min(1.0, chance + half)


def _clustered(values: Sequence[float], clusters: Sequence[int]) -> tuple[float, float, int]:
    """Mean of values, its standard error, and the number of clusters; without `clusters` each value is one."""
    sums, sizes = cluster_sums(values, clusters)
    mean, count = math.fsum(values) / len(values), len(sizes)
    spread = float(np.sum((sums - mean * sizes) ** 2))
    return mean, math.sqrt(spread * count / max(count - 1, 1)) / len(values), count


def cluster_sums(values: Sequence[float] | np.ndarray, clusters: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The sums of the values of each cluster, and how many they are; without `clusters` each value is one."""
    if not len(clusters):
        return np.asarray(values, dtype=float), np.ones(len(values))
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(place, weights=np.asarray(values, dtype=float)), np.bincount(place).astype(float)


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
    before: Sequence[float],
    after: Sequence[float],
    sizes: Sequence[float] | None = None,
    clusters: Sequence[int] = (),
) -> Interval | None:
    """Bootstrap interval of the mean of after - before over the same items; None where there is nothing to pair.

    With `sizes`, the sum of the differences divided by that of the sizes. What is of one of `clusters` is drawn
    together.
    """
    if not before or len(before) != len(after):
        return None
    change, counts = cluster_sums(np.asarray(after) - np.asarray(before), clusters)
    weights = counts if sizes is None else cluster_sums(sizes, clusters)[0]
    return bootstrap_ratio(change, weights, resamples=4000)


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
