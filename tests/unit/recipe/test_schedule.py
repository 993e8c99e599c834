"""The learning rate follows its closed forms, and a segment holds no more of the schedule than matters in its span."""

import math

import pytest

from smolmake.recipe.pretraining import Schedule
from smolmake.recipe.schedule import learning_rate, schedule_pieces, within


def rates(steps: int, **settings: object) -> list[float]:
    pieces = schedule_pieces(Schedule(**settings), steps)  # type: ignore[arg-type]
    return [learning_rate(pieces, step) for step in range(steps)]


def test_warm_up_ends_at_the_peak_and_wastes_no_step() -> None:
    found = rates(20, lr=2.0, warmup_steps=4, decay_steps=0)
    assert found[:4] == [0.5, 1.0, 1.5, 2.0]
    assert found[4:] == [2.0] * 16


def test_linear_decay() -> None:
    found = rates(10, lr=1.0, warmup_steps=0, decay_steps=5, decay_shape="linear")
    assert found == pytest.approx([1.0] * 5 + [1.0, 0.8, 0.6, 0.4, 0.2])


def test_cosine_decay_to_a_floor() -> None:
    found = rates(50, lr=1.0, min_lr=0.1, decay_shape="cosine")
    assert found == pytest.approx([0.1 + 0.9 * (1 + math.cos(math.pi * step / 50)) / 2 for step in range(50)])


def test_root_decay() -> None:
    found = rates(40, lr=3.0, decay_steps=16, decay_shape="1-sqrt")
    assert found[24:] == pytest.approx([3.0 * (1 - math.sqrt(step / 16)) for step in range(16)])


@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
def test_the_rate_never_leaves_its_bounds_and_only_falls_after_warm_up(shape: str) -> None:
    found = rates(100, lr=1.0, min_lr=0.05, warmup_steps=10, decay_steps=60, decay_shape=shape)
    assert all(0 < rate <= 1 for rate in found) and min(found[10:]) >= 0.05
    assert found[:10] == sorted(found[:10]) and found[10:] == sorted(found[10:], reverse=True)


@pytest.mark.parametrize("cuts", [[0, 100], [0, 50, 100], [0, 7, 10, 33, 40, 41, 99, 100]])
@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
def test_segments_have_the_rates_of_the_whole_run(cuts: list[int], shape: str) -> None:
    pieces = schedule_pieces(Schedule(lr=1.0, warmup_steps=10, decay_steps=60, decay_shape=shape), 100)  # type: ignore[arg-type]
    whole = [learning_rate(pieces, step) for step in range(100)]
    cut = [
        learning_rate(within(pieces, first, last), step)
        for first, last in zip(cuts, cuts[1:], strict=False)
        for step in range(first, last)
    ]
    assert cut == whole


def test_a_longer_run_keeps_the_pieces_of_its_stable_part() -> None:
    schedule = Schedule(lr=1.0, warmup_steps=10, decay_steps=20)
    short, long = schedule_pieces(schedule, 100), schedule_pieces(schedule, 300)
    assert within(short, 0, 40) == within(long, 0, 40)
    assert within(short, 40, 80) == within(long, 40, 80)
    assert within(short, 80, 100) != within(long, 80, 100)


def test_a_step_outside_is_an_error() -> None:
    pieces = schedule_pieces(Schedule(lr=1.0), 10)
    for step in (-1, 10):
        with pytest.raises(ValueError, match="outside"):
            learning_rate(pieces, step)
    with pytest.raises(ValueError, match="outside"):
        learning_rate(within(schedule_pieces(Schedule(lr=1.0, decay_steps=2), 10), 0, 4), 5)


def test_multi_step_drops_are_tails() -> None:
    # DeepSeek LLM (2024): the rate falls to 31.6 % after 80 % of the tokens and to 10 % after 90 %.
    found = rates(
        100, lr=1.0, warmup_steps=4, decay_steps=0, tail=[{"steps": 10, "lr": 0.316}, {"steps": 10, "lr": 0.1}]
    )
    assert found[4:] == [1.0] * 76 + [0.316] * 10 + [0.1] * 10


def test_deepseek_v3() -> None:
    # DeepSeek-V3 (2024), section 4.2, in units of 0.1T tokens: 2.2e-4 until 10T, cosine to 2.2e-5 over 4.3T, then
    # 2.2e-5 for 333B and 7.3e-6 for 167B.
    tail = [{"steps": 33, "lr": 2.2e-5}, {"steps": 17, "lr": 7.3e-6}]
    found = rates(1480, lr=2.2e-4, warmup_steps=2, decay_steps=430, decay_shape="cosine", min_lr=2.2e-5, tail=tail)
    assert found[:2] == pytest.approx([1.1e-4, 2.2e-4]) and found[2:1000] == [2.2e-4] * 998
    assert found[1000 + 215] == pytest.approx((2.2e-4 + 2.2e-5) / 2)
    assert found[1430:] == [2.2e-5] * 33 + [7.3e-6] * 17
    assert found[2:] == sorted(found[2:], reverse=True)


def test_tails_are_no_part_of_the_segments_before() -> None:
    tail = [{"steps": 20, "lr": 0.1}]
    without = schedule_pieces(Schedule(lr=1.0, decay_steps=20), 80)
    with_tail = schedule_pieces(Schedule(lr=1.0, decay_steps=20, tail=tail), 100)
    assert within(with_tail, 0, 80) == within(without, 0, 80)
    assert within(with_tail, 85, 90) != within(schedule_pieces(Schedule(lr=1.0, tail=[]), 100), 85, 90)
