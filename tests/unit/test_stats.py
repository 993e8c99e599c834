"""Intervals against published numbers and by simulation."""

import numpy as np
import pytest

from smolmake.stats import (
    Interval,
    bootstrap_ratio,
    difference,
    mean_interval,
    paired_difference,
    weighted_mean,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe 1998, table I, method 3; 0 of 0 says nothing
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0), (0, 0, 0.0, 1.0),
    ],
)  # fmt: skip
def test_wilson_has_the_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        sizes = rng.integers(50, 500, size=40).astype(float)
        nats = sizes * rng.normal(2.0, 0.5, size=40)
        low, high = bootstrap_ratio(list(nats), list(sizes), seed=trial)
        assert low < high
        hits += low <= 2.0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_the_bootstrap_is_deterministic_and_has_no_width_without_spread() -> None:
    assert bootstrap_ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == bootstrap_ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    assert bootstrap_ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.0))


def newcombe(before: float, n_before: int, after: float, n_after: int) -> Interval:
    return difference((before, *wilson(before * n_before, n_before)), (after, *wilson(after * n_after, n_after)))


@pytest.mark.parametrize(
    "first, second, expected",
    [  # Newcombe 1998, table II, method 10
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
    ],
)
def test_newcombe_interval(first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float]) -> None:
    low, high = newcombe(second[0] / second[1], second[1], first[0] / first[1], first[1])
    assert low == pytest.approx(expected[0], abs=5e-5) and high == pytest.approx(expected[1], abs=5e-5)


def test_the_interval_of_a_mean() -> None:
    assert mean_interval([0.0, 1.0, 1.0, 1.0])[0] == 0.75
    mean, low, high = mean_interval([0.25, 0.5, 0.75, 0.5])
    assert mean == 0.5 and low == pytest.approx(0.5 - 1.95996 * 0.2041241 / 2, abs=1e-5) and high == 1 - low


def test_a_paired_difference_is_narrower_than_that_of_two_samples_and_needs_the_same_items() -> None:
    before = [float(item % 2) for item in range(100)]
    after = [1.0 if item % 10 == 0 else value for item, value in enumerate(before)]
    low, high = paired_difference(before, after) or (0.0, 0.0)
    apart = newcombe(0.5, 100, 0.6, 100)
    assert apart[0] < 0 < low < 0.1 < high < apart[1]
    assert paired_difference(before, after[1:]) is None and paired_difference([], []) is None
    halved = paired_difference(before, after, sizes=[2.0] * 100) or (0.0, 0.0)
    assert halved == pytest.approx((low / 2, high / 2))


def test_a_weighted_mean_adds_its_intervals_as_independent() -> None:
    value, low, high = weighted_mean([(1.0, 0.9, 1.2), (3.0, 2.6, 3.0)], [1, 3])
    assert value == 2.5
    assert (value - low, high - value) == pytest.approx(((0.025**2 + 0.3**2) ** 0.5, 0.05))
