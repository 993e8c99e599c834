"""Ticks say what they are, and labels do not touch."""

import itertools
import re

import pytest

from smolmake.report.charts.lines import Span, span_ticks, stage_labels
from smolmake.report.charts.svg import Axis, Frame, nice_ticks, text_width, tick_labels

FRAME = Frame(58, 46, 850, 280, Axis(0, 100), Axis(0, 1))


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (3.7, 4.55, ["3.75", "4.00", "4.25", "4.50"]),
        (0, 1_500_000, ["0", "0.5M", "1.0M", "1.5M"]),
        (0, 1e-3, ["0", "2.5e−4", "5e−4", "7.5e−4", "1e−3"]),
        (-1, 1, ["−1.0", "−0.5", "0", "0.5", "1.0"]),
        (10_000, 11_000, ["10.00k", "10.25k", "10.50k", "10.75k", "11.00k"]),
        (2, 8, ["2", "4", "6", "8"]),
        (4.2, 4.2, ["4.2"]),
    ],
)
def test_ticks_have_the_digits_of_their_step(low: float, high: float, expected: list[str]) -> None:
    assert [label for _, label in tick_labels(nice_ticks(low, high, 4))] == expected


def test_ticks_of_one_axis_differ() -> None:
    for low, size, count in itertools.product((-3.0, 0.0, 0.97, 12_345.0, 8e12), (1e-5, 0.02, 0.7, 40.0), (4, 6, 8)):
        labels = [label for _, label in tick_labels(nice_ticks(low, low + size * max(1.0, low), count))]
        assert len(set(labels)) == len(labels), labels


def placed(labels: list[str]) -> list[tuple[str, float, float]]:
    """The words of drawn labels with their places."""
    found = [re.fullmatch(r'<text x="(.*?)" y="(.*?)".*>(.*)</text>', label) for label in labels]
    return [(m[3], float(m[1]), float(m[2])) for m in found if m]


@pytest.mark.parametrize("ends", [(50, 80, 90, 95, 100), (70, 98, 98.4, 99.2, 100), (1, 2, 3, 4, 100)])
def test_names_of_stages_lie_in_one_row_and_apart(ends: tuple[float, ...]) -> None:
    names = ["stage1", "stage2", "stage3", "long1", "long2"]
    spans = [Span(a, b, name) for (a, b), name in zip(itertools.pairwise((0, *ends)), names, strict=True)]
    drawn = placed(list(map(str, stage_labels(FRAME, spans))))
    assert len({y for *_, y in drawn}) == 1 and len(drawn) >= 2
    edges = [(x - text_width(word, 12.5) / 2, x + text_width(word, 12.5) / 2) for word, x, _ in drawn]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(edges))
    assert edges[0][0] >= FRAME.left and edges[-1][1] <= FRAME.right
    if ends[0] >= 50:
        assert [word for word, *_ in drawn][0] == "stage1" and "long2" in [word for word, *_ in drawn]


def test_names_below_a_small_chart_are_straight_or_slanted_all() -> None:
    def drawn(names: list[str]) -> list[str]:
        frame = Frame(42, 48, 242, 132, Axis(-0.5, len(names) - 0.5), Axis(0, 1))
        spans = [Span(k - 0.5, k + 0.5, name) for k, name in enumerate(names)]
        return list(map(str, span_ticks(frame, spans)))

    assert [word for word, *_ in placed(drawn(["S1", "S2", "mid"]))] == ["S1", "S2", "mid"]
    crowded = drawn(["S1", "S2", "S3", "LC1", "LC2", "mid", "SFT", "APO", "merge"])
    assert len(crowded) == 9 and all("rotate" in label for label in crowded)
    many = drawn([f"S{k}" for k in range(60)])
    places = [float(m[1]) for label in many if (m := re.search(r"translate\((\S+)", label))]
    assert len(places) == len(many) and all(b - a >= 12.9 for a, b in itertools.pairwise(places))
    assert "averyl…" in drawn(["averylongname", "b"])[0]
