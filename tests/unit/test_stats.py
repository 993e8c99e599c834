"""Intervals against published numbers and by simulation."""

import numpy as np
import pytest

from smolmake.stats import (
    Interval,
    bootstrap_ratio,
    difference,
    guess_interval,
    mean_interval,
    paired_difference,
    share_interval,
    t_quantile,
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
    mean, low, high = mean_interval([0.25, 0.5, 0.75, 0.5])
    assert mean == 0.5 and low == pytest.approx(0.5 - 3.182 * 0.2041241 / 2, abs=1e-5) and high == 1 - low
    assert mean_interval([2.0]) == (2.0, 2.0, 2.0)
    # questions of two and of one item, whose sums are 0.5 above and below what the mean of 0.5 says
    assert mean_interval([1.0, 0.5, 0.0], [7, 7, 3]) == pytest.approx((0.5, 0.5 - 12.706 / 3, 0.5 + 12.706 / 3))


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.706), (4, 2.776), (5, 2.571), (9, 2.262), (29, 2.045), (1000, 1.962)]
)
def test_student_s_t_has_the_published_quantiles(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, rel=2e-3)


def test_the_interval_of_a_share_is_wilson_s_for_right_and_wrong() -> None:
    assert share_interval([0.0, 1.0, 1.0, 1.0]) == (0.75, *wilson(3, 4))
    assert share_interval([1.0] * 20, list(range(20)))[1:] == wilson(20, 20)


def test_answers_to_one_question_are_no_more_than_one_draw() -> None:
    """Ten questions asked eight times each, which a model knows or does not, are ten items and not eighty."""
    each_time = [known for known in [1.0] * 5 + [0.0] * 5 for _ in range(8)]
    clusters = [number for number in range(10) for _ in range(8)]
    _, low, high = share_interval(each_time, clusters)
    assert (low, high) == pytest.approx(wilson(5, 10), abs=0.06)
    assert high - low > 2 * (wilson(40, 80)[1] - wilson(40, 80)[0])
    assert share_interval([1.0] * 16, [0] * 8 + [1] * 8)[1:] == wilson(2, 2)
    # the same mean everywhere is no certainty where it is one of eight answers each
    assert share_interval([0.5] * 10, answers=80)[1:] == pytest.approx(wilson(40, 80))


@pytest.mark.parametrize("count", [12, 40, 200])
@pytest.mark.parametrize("ability", [(0.6, 1.4), (4.0, 1.0), (0.3, 0.3)])
@pytest.mark.parametrize("repeats", [1, 8])
def test_the_interval_of_a_share_covers_the_truth(count: int, ability: tuple[float, float], repeats: int) -> None:
    """Questions differ in how often a model is right (a beta distribution), and each has so many answers."""
    rng = np.random.default_rng(count + repeats)
    truth, hits, naive, trials = ability[0] / sum(ability), 0, 0, 400
    for _ in range(trials):
        right = rng.binomial(repeats, rng.beta(*ability, size=count))
        items = list(right / repeats)
        _, low, high = share_interval(items, answers=count * repeats)
        assert 0 <= low <= sum(items) / count <= high <= 1
        hits += low <= truth <= high
        below, above = wilson(int(right.sum()), count * repeats)
        naive += below <= truth <= above
    assert 0.91 <= hits / trials <= 0.995
    assert repeats == 1 or naive / trials < 0.85  # answers taken for independent ones


def test_the_interval_of_questions_with_several_items_covers_the_truth() -> None:
    """As of passages with several statements: sizes differ, and so do passages."""
    rng, hits, naive, trials = np.random.default_rng(0), 0, 0, 400
    for _ in range(trials):
        sizes = rng.integers(1, 9, size=60)
        clusters = np.repeat(np.arange(60), sizes)
        values = rng.binomial(1, np.repeat(rng.beta(0.5, 0.5, size=60), sizes)).astype(float)
        low, high = share_interval(list(values), list(clusters))[1:]
        below, above = share_interval(list(values))[1:]
        hits, naive = hits + (low <= 0.5 <= high), naive + (below <= 0.5 <= above)
    assert 0.92 <= hits / trials <= 0.985 and naive / trials < 0.85


def test_the_interval_of_other_means_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        low, high = mean_interval(list(rng.normal(2.0, 1.0, size=6)))[1:]
        hits += low <= 2.0 <= high
    assert 0.93 <= hits / 1000 <= 0.97


@pytest.mark.parametrize(("chance", "answers"), [(0.25, 20), (0.25, 400), (0.5, 30), (0.1, 100)])
def test_guessers_score_between_the_limits_of_guessing(chance: float, answers: int) -> None:
    low, high = guess_interval(chance, answers)
    scores = np.random.default_rng(0).binomial(answers, chance, size=4000) / answers
    assert 0.92 <= float(((low <= scores) & (scores <= high)).mean()) <= 0.985 and 0 <= low < chance < high
    assert guess_interval(0.0, answers) == (0.0, 0.0)


def test_a_paired_difference_is_narrower_than_that_of_two_samples_and_needs_the_same_items() -> None:
    before = [float(item % 2) for item in range(100)]
    after = [1.0 if item % 10 == 0 else value for item, value in enumerate(before)]
    low, high = paired_difference(before, after) or (0.0, 0.0)
    apart = newcombe(0.5, 100, 0.6, 100)
    assert apart[0] < 0 < low < 0.1 < high < apart[1]
    assert paired_difference(before, after[1:]) is None and paired_difference([], []) is None
    together = paired_difference(before, after, clusters=[item // 10 for item in range(100)]) or (0.0, 0.0)
    assert together == pytest.approx((0.1, 0.1))  # each ten changes alike
    halved = paired_difference(before, after, sizes=[2.0] * 100) or (0.0, 0.0)
    assert halved == pytest.approx((low / 2, high / 2))


def test_a_weighted_mean_adds_its_intervals_as_independent() -> None:
    value, low, high = weighted_mean([(1.0, 0.9, 1.2), (3.0, 2.6, 3.0)], [1, 3])
    assert value == 2.5
    assert (value - low, high - value) == pytest.approx(((0.025**2 + 0.3**2) ** 0.5, 0.05))
