"""The charts of the report, each a function from plain numbers to an SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from smolmake.report.svg import (
    Axis,
    Frame,
    Point,
    axes,
    band,
    curve,
    dot,
    element,
    line,
    nice_ticks,
    picture,
    text,
    text_width,
)
from smolmake.report.text import compact, percent, round_to

WIDE = 920.0
SMALL = 292.0


@dataclass(frozen=True)
class Span:
    """A stretch of the x axis that belongs to one stage."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Series:
    """Values with their 95 % interval; `tips` are shown when a point is pointed at."""

    label: str
    points: list[Point]
    lows: list[float]
    highs: list[float]
    tips: list[str]
    colour: str


def smooth(values: Sequence[float], window: float) -> list[float]:
    """Mean of about `window` values around each value; near the ends, of as many as both sides have."""
    half = max(4, round(window / 2))
    sums = [0.0, *accumulate(values)]
    result = []
    for k in range(len(values)):
        reach = min(half, k, len(values) - 1 - k)
        result.append((sums[k + reach + 1] - sums[k - reach]) / (2 * reach + 1))
    return result


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` of the points: of each stretch, its lowest and its highest."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept


def value_axis(values: Sequence[float], count: int, zero: bool = False) -> Axis:
    """An axis that holds the values, from round number to round number."""
    low, high = (0.0 if zero else min(values)), max(values)
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    ticks = nice_ticks(low if zero else low - margin, high + margin, count)
    return Axis(low if zero else low - margin, high + margin, [(t, axis_number(t)) for t in ticks])


def axis_number(value: float) -> str:
    """A tick label: 0.0003 as 3e-4, 1200000 as 1.2M."""
    if value and abs(value) < 0.00995:
        exponent = math.floor(math.log10(abs(value)) + 1e-9)
        return f"{round_to(value / 10.0**exponent, 2)}e{exponent}".replace("-", "−")
    return compact(value)


def loss_chart(runs: list[list[Point]], rates: list[list[Point]], spans: list[Span], desc: str) -> Markup:
    """Loss (raw faint, smoothed strong) and the learning rate, over tokens; a list of points a run."""
    x_axis = Axis(0, spans[-1].end, [(t, compact(t)) for t in nice_ticks(0, spans[-1].end, 8)])
    smoothed = [list(zip([x for x, _ in run], smooth([y for _, y in run], len(run) / 50), strict=True)) for run in runs]
    settled = [y for run in smoothed for _, y in run]
    raw = [y for run in runs for _, y in run]
    top = Frame(58, 46, WIDE - 70, 280, x_axis, value_axis([max(min(raw), 0.97 * min(settled)), max(settled)], 6))
    has_rates = any(rates)
    low = Frame(58, 362, WIDE - 70, 92, x_axis, value_axis([y for r in rates for _, y in r] or [1], 4, zero=True))
    height = (low.bottom if has_rates else top.bottom) + 44
    parts = [
        element(
            "rect",
            x=top.px(s.start),
            y=top.top - 8,
            width=top.px(s.end) - top.px(s.start),
            height=height - 44 - top.top + 8,
            class_="span",
        )
        for s in spans[1::2]
    ]
    parts += stage_labels(top, spans)
    parts += [line(top.px(s.start), top.top - 8, top.px(s.start), height - 44, "border") for s in spans[1:]]
    parts += [axes(top, x_labels=not has_rates), text(14, top.top - 22, "loss", "label")]
    parts += [curve(top, thin(run, 1400), "c1 faint") for run in runs]
    parts += [curve(top, thin(run, 1400), "c1 strong") for run in smoothed]
    if has_rates:
        parts += [axes(low), text(14, low.top - 12, "learning rate", "label")]
        parts += [curve(low, thin(run, 1400), "c2 strong") for run in rates]
    parts.append(text(top.right, height - 6, "tokens", "label", "end"))
    return picture(WIDE, height, "Training loss and learning rate", desc, *parts)


def stage_labels(frame: Frame, spans: list[Span]) -> list[Markup]:
    """The names of the stages above the chart, on two rows where they are close to each other."""
    parts, ends = [], [-1e9, -1e9]
    for span in spans:
        width = text_width(span.label, 12)
        middle = frame.px((span.start + span.end) / 2)
        middle = min(max(middle, frame.left + width / 2), frame.right - width / 2)
        row = 0 if middle - width / 2 > ends[0] + 6 else 1
        ends[row] = middle + width / 2
        parts.append(text(middle, frame.top - 16 - 15 * row, span.label, "label", "middle"))
    return parts


def small_loss(title: str, points: list[Point]) -> Markup:
    """The loss of one post-training step, over its optimizer steps."""
    smoothed = list(zip([x for x, _ in points], smooth([y for _, y in points], len(points) / 15), strict=True))
    first, last = points[0][0], points[-1][0]
    x_axis = Axis(first, last, [(t, compact(t)) for t in nice_ticks(first, last, 4)])
    frame = Frame(46, 36, SMALL - 58, 128, x_axis, value_axis([y for _, y in points], 4))
    return picture(
        SMALL,
        206,
        f"Loss of {title}",
        f"From {round_to(smoothed[0][1], 3)} to {round_to(smoothed[-1][1], 3)} (smoothed).",
        text(0, 16, title, "title"),
        axes(frame),
        curve(frame, thin(points, 500), "c1 faint"),
        curve(frame, thin(smoothed, 500), "c1 strong"),
        text(frame.right, 203, "steps", "label", "end"),
    )


def checkpoint_chart(
    title: str, subtitle: str, series: list[Series], spans: list[Span], y: Axis, chance: float | None
) -> Markup:
    """One small chart over checkpoints: lines with interval bands, the chance line, stages below the axis."""
    frame = Frame(42, 48, SMALL - 50, 132, Axis(-0.5, max(spans[-1].end, 0.5)), y)
    parts = [
        text(0, 15, title, "title"),
        text(0, 32, subtitle, "tick") if len(series) == 1 else names(series),
    ]
    parts += [
        element(
            "rect",
            x=frame.px(s.start),
            y=frame.top,
            width=frame.px(s.end) - frame.px(s.start),
            height=frame.height,
            class_="span",
        )
        for s in spans[1::2]
    ]
    parts.append(axes(frame))
    if chance is not None and y.low <= chance <= y.high:
        level = frame.py(chance)
        parts.append(line(frame.left, level, frame.right, level, "chance"))
        parts.append(
            text(
                frame.right,
                level + 13 if frame.bottom - level > 16 else level - 4,
                f"chance {percent(chance, 0)}",
                "tick",
                "end",
            )
        )
    for s in series:
        xs = [x for x, _ in s.points]
        parts.append(band(frame, list(zip(xs, s.lows, strict=True)), list(zip(xs, s.highs, strict=True)), s.colour))
        parts.append(curve(frame, s.points, f"{s.colour} strong"))
        parts += [dot(frame, p, tip, s.colour, 2.6) for p, tip in zip(s.points, s.tips, strict=True)]
    parts += span_ticks(frame, spans)
    desc = "; ".join(
        f"{s.label}: {s.tips[0]}" + (f", at the end {s.tips[-1]}" if len(s.tips) > 1 else "") for s in series
    )
    return picture(SMALL, 212, f"{title}, {subtitle}", desc, *parts)


def names(series: list[Series]) -> Markup:
    """The names of several lines, each in its colour, in place of the subtitle."""
    words = [element("tspan", s.label, class_=f"name {s.colour}", dx=0 if k == 0 else 9) for k, s in enumerate(series)]
    return element("text", *words, x=0, y=32, class_="tick")


def span_ticks(frame: Frame, spans: list[Span]) -> list[Markup]:
    """Short names of the stages below the axis; on two rows if they would touch."""
    widths = [text_width(s.label, 11) for s in spans]
    parts, ends = [], [-1e9, -1e9]
    for span, width in zip(spans, widths, strict=True):
        middle = min(frame.px((span.start + span.end) / 2), frame.right + 8 - width / 2)
        row = 0 if middle - width / 2 > ends[0] + 5 else 1
        ends[row] = middle + width / 2
        parts.append(text(middle, frame.bottom + 15 + 12 * row, span.label, "tick", "middle"))
    return parts
