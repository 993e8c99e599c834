"""Intervals for a change measured on the same items before and after: a bootstrap over the items."""

import math

import numpy as np

from smolmake.report.artifacts import HeldOut, Score

RESAMPLES = 4_000
Interval = tuple[float, float]


def paired_scores(before: Score, after: Score) -> Interval | None:
    """95 % interval of the mean change, item by item; None where the items are not the same."""
    if not before.items or len(before.items) != len(after.items):
        return None
    change = np.asarray(after.items) - np.asarray(before.items)
    return _percentiles(change, np.ones(len(change)))


def paired_losses(before: list[HeldOut], after: list[HeldOut]) -> Interval | None:
    """95 % interval of the change in bits per byte over all documents; None where they are not the same."""
    pairs = list(zip(before, after, strict=False))
    same = all(a.source == b.source and a.sizes and a.sizes == b.sizes for a, b in pairs)
    if not pairs or len(before) != len(after) or not same:
        return None
    nats = np.concatenate([np.asarray(b.nats) - np.asarray(a.nats) for a, b in pairs])
    sizes = np.concatenate([np.asarray(a.sizes) for a, _ in pairs])
    return _percentiles(nats, sizes * math.log(2))


def _percentiles(numerators: np.ndarray, denominators: np.ndarray) -> Interval:
    picks = np.random.default_rng(0).integers(0, len(numerators), size=(RESAMPLES, len(numerators)))
    ratios = numerators[picks].sum(axis=1) / denominators[picks].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
