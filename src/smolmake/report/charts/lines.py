"""The charts of the report, each a function from plain numbers to an SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from markupsafe import Markup

from smolmake.report.charts.svg import (
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
from smolmake.report.text import UNITS, compact, round_to

WIDE = 920.0
SMALL = 292.0


@dataclass(frozen=True)
class Span:
    """A stretch of the x axis that belongs to one stage."""

    start: float
    end: float
    label: str
    short: str = ""


@dataclass(frozen=True)
class Series:
    """Values with their 95 % interval; `tooltips` are shown when a point is pointed at."""

    label: str
    points: list[Point]
    lows: list[float]
    highs: list[float]
    tooltips: list[str]
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
    """At most about `most` of the points: of each span, its lowest and its highest."""
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
    low, high = (low if zero else low - margin), high + margin
    return Axis(low, high, tick_labels(nice_ticks(low, high, count)))


def tick_labels(ticks: list[float]) -> list[tuple[float, str]]:
    """Each tick with its label, in one unit and with the decimals that the step needs: 4.25 and 4.50, 0.5M and 1.0M.

    Where all are below 0.01, with an exponent: 2.5e−4.
    """
    top = max((abs(t) for t in ticks), default=0.0)
    if top < 0.00995:
        return [(t, exponential(t)) for t in ticks]
    factor, suffix = next(((f, s) for f, s in UNITS if top >= f), (1.0, ""))
    scaled = [t / factor for t in ticks]
    close = 0.01 * (scaled[1] - scaled[0] if len(ticks) > 1 else abs(scaled[0]))
    decimals = next((d for d in range(9) if all(abs(v - round(v, d)) <= close for v in scaled)), 9)
    labels = [f"{v:.{decimals}f}{suffix}".replace("-", "−") for v in scaled]
    return [(t, label if abs(v) > close else "0") for t, v, label in zip(ticks, scaled, labels, strict=True)]


def exponential(value: float) -> str:
    """0.0003 as 3e−4."""
    if not value:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    return f"{round_to(value / 10.0**exponent, 4)}e{exponent}".replace("-", "−")


def loss_chart(runs: list[list[Point]], rates: list[list[Point]], spans: list[Span], desc: str) -> Markup:
    """Loss (raw faint, smoothed strong) and the learning rate, over tokens; a list of points a run."""
    x_axis = Axis(0, spans[-1].end, tick_labels(nice_ticks(0, spans[-1].end, 8)))
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


def measure_chart(title: str, lines: list[tuple[list[Point], str]], spans: list[Span], desc: str, log: bool) -> Markup:
    """Lines of (points, colour class) over tokens; `log` puts powers of ten on the value axis."""
    if log:
        lines = [([(x, math.log10(y)) for x, y in points], colour) for points, colour in lines]
    values = [y for points, _ in lines for _, y in points]
    y_axis = value_axis(values, 5)
    if log:
        powers = range(math.floor(min(values)), math.ceil(max(values)) + 1)
        y_axis = Axis(powers[0], max(powers[-1], powers[0] + 1), [(n, compact(10.0**n)) for n in powers])
    x_axis = Axis(0, spans[-1].end, tick_labels(nice_ticks(0, spans[-1].end, 8)))
    frame = Frame(58, 46, WIDE - 70, 200, x_axis, y_axis)
    height = frame.bottom + 44
    return picture(
        WIDE,
        height,
        title,
        desc,
        *stage_labels(frame, spans),
        *(line(frame.px(s.start), frame.top - 8, frame.px(s.start), frame.bottom, "border") for s in spans[1:]),
        axes(frame),
        *(curve(frame, thin(points, 1400), f"{colour} strong") for points, colour in lines),
        text(frame.right, height - 6, "tokens", "label", "end"),
    )


def stage_labels(frame: Frame, spans: list[Span]) -> list[Markup]:
    """The names of the stages above the chart: short ones where the stage is narrow, moved aside before they touch."""
    parts: list[Markup] = []
    limit = frame.right
    for span in reversed(spans):
        room = frame.px(span.end) - frame.px(span.start)
        label = span.label if text_width(span.label, 13) <= room else span.short or span.label
        width = text_width(label, 13)
        middle = max(frame.px((span.start + span.end) / 2), frame.left + width / 2)
        middle = min(middle, limit - width / 2)
        if middle - width / 2 >= frame.left - 0.5:
            parts.append(text(middle, frame.top - 16, label, "label", "middle"))
            limit = middle - width / 2 - 8
    return parts[::-1]


def small_loss(title: str, points: list[Point]) -> Markup:
    """The loss of one post-training step, over its optimizer steps."""
    smoothed = list(zip([x for x, _ in points], smooth([y for _, y in points], len(points) / 15), strict=True))
    first, last = points[0][0], points[-1][0]
    x_axis = Axis(first, last, tick_labels(nice_ticks(first, last, 4)))
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
        parts.append(line(frame.left, frame.py(chance), frame.right, frame.py(chance), "chance"))
    for s in series:
        xs = [x for x, _ in s.points]
        parts.append(band(frame, list(zip(xs, s.lows, strict=True)), list(zip(xs, s.highs, strict=True)), s.colour))
        parts.append(curve(frame, s.points, f"{s.colour} strong"))
        parts += [dot(frame, p, tooltip, s.colour, 2.6) for p, tooltip in zip(s.points, s.tooltips, strict=True)]
    parts += span_ticks(frame, spans)
    desc = "; ".join(
        f"{s.label}: {s.tooltips[0]}" + (f", at the end {s.tooltips[-1]}" if len(s.tooltips) > 1 else "")
        for s in series
    )
    return picture(SMALL, 222, f"{title}, {subtitle}", desc, *parts)


def names(series: list[Series]) -> Markup:
    """The names of several lines, each in its colour, in place of the subtitle."""
    words = [element("tspan", s.label, class_=f"name {s.colour}", dx=0 if k == 0 else 9) for k, s in enumerate(series)]
    return element("text", *words, x=0, y=32, class_="tick")


def span_ticks(frame: Frame, spans: list[Span]) -> list[Markup]:
    """Short names of the stages below the axis; slanted if they would touch, and then only as many as have room."""
    labels = [s.label if len(s.label) <= 7 else f"{s.label[:6]}…" for s in spans]
    middles = [frame.px((s.start + s.end) / 2) for s in spans]
    halves = [text_width(label, 13) / 2 for label in labels]
    sides = list(zip(middles, halves, strict=True))
    if all(a + half + 6 <= b - other for (a, half), (b, other) in pairwise(sides)):
        return [text(x, frame.bottom + 15, label, "tick", "middle") for x, label in zip(middles, labels, strict=True)]
    parts: list[Markup] = []
    last = -math.inf
    for x, label in zip(middles, labels, strict=True):
        if x - last >= 13:
            parts.append(slanted(x + 4, frame.bottom + 13, label))
            last = x
    return parts


def slanted(x: float, y: float, label: str) -> Markup:
    """A label that ends at the point and comes up to it from the left."""
    return element("text", label, class_="tick", text_anchor="end", transform=f"translate({x:.1f} {y:.1f}) rotate(-38)")
