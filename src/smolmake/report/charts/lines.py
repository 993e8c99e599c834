"""Charts of lines: what training measured over tokens, and what was evaluated over checkpoints."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from markupsafe import Markup

from smolmake.report.charts import svg
from smolmake.report.text import compact, round_to


@dataclass(frozen=True)
class Span:
    """A stretch of the x axis that belongs to one stage."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Panel:
    """A pair of axes of a wide chart; its lines are (points, style classes)."""

    label: str
    height: float
    y: svg.Axis
    lines: list[tuple[list[svg.Point], str]]


class Mark(NamedTuple):
    """A value with its 95 % interval, and what it says when it is pointed at."""

    x: float
    value: float
    low: float
    high: float
    tooltip: str


@dataclass(frozen=True)
class Series:
    """A line of a small chart."""

    label: str
    marks: list[Mark]
    colour: str = "c1"


def smooth(points: Sequence[svg.Point], parts: int) -> list[svg.Point]:
    """Each point with the mean of its neighbours, one of so many parts of all; near the ends, of as many as both
    sides have."""
    half = max(4, round(len(points) / parts / 2))
    sums = [0.0, *accumulate(y for _, y in points)]
    result = []
    for k, (x, _) in enumerate(points):
        reach = min(half, k, len(points) - 1 - k)
        result.append((x, (sums[k + reach + 1] - sums[k - reach]) / (2 * reach + 1)))
    return result


def loss_chart(runs: list[list[svg.Point]], rates: list[list[svg.Point]], spans: list[Span], desc: str) -> Markup:
    """Loss (raw faint, smoothed strong) and the learning rate, over tokens; a list of points a run."""
    smoothed = [smooth(run, 50) for run in runs]
    settled = [y for run in smoothed for _, y in run]
    lowest = max(min(y for run in runs for _, y in run), 0.97 * min(settled))
    lines = [(run, "c1 faint") for run in runs] + [(run, "c1 strong") for run in smoothed]
    panels = [Panel("loss, nats a token", 280, svg.value_axis([lowest, max(settled)], 6), lines)]
    if any(rates):
        y = svg.value_axis([y for run in rates for _, y in run], 4, zero=True)
        panels.append(Panel("learning rate", 92, y, [(run, "c2 strong") for run in rates]))
    return token_chart("Training loss and learning rate", desc, panels, spans)


def logarithmic(label: str, lines: list[tuple[list[svg.Point], str]]) -> Panel:
    """A panel with powers of ten on its value axis."""
    scaled = [([(x, math.log10(y)) for x, y in points], style) for points, style in lines]
    values = [y for points, _ in scaled for _, y in points]
    powers = range(math.floor(min(values)), max(math.ceil(max(values)), math.floor(min(values)) + 1) + 1)
    return Panel(label, 200, svg.Axis(powers[0], powers[-1], [(n, compact(10.0**n)) for n in powers]), [*scaled])


def token_chart(title: str, desc: str, panels: list[Panel], spans: list[Span]) -> Markup:
    """Panels one below the other, over tokens; stages are named above them, and parted by shades and dashed lines."""
    x = svg.axis(0, spans[-1].end, 8, least=1)
    tops = accumulate((panel.height + 36 for panel in panels), initial=46.0)
    frames = [svg.Frame(58, top, svg.WIDE - 70, p.height, x, p.y) for top, p in zip(tops, panels, strict=False)]
    first, last = frames[0], frames[-1]
    top, bottom = first.top - 8, last.bottom
    parts = [*shades(first, spans, top, bottom), *stage_labels(first, spans)]
    parts += [svg.line(first.px(s.start), top, first.px(s.start), bottom, "border") for s in spans[1:]]
    for frame, panel in zip(frames, panels, strict=True):
        above = 34 if frame is first else 12
        parts += [svg.axes(frame, x_labels=frame is last), svg.text(14, frame.top - above, panel.label, "label")]
        parts += [svg.curve(frame, points, style) for points, style in panel.lines]
    parts.append(svg.text(last.right, bottom + 38, "tokens", "label", "end"))
    return svg.picture(svg.WIDE, bottom + 44, title, desc, *parts)


def shades(frame: svg.Frame, spans: list[Span], top: float, bottom: float) -> list[Markup]:
    """A shade behind every second stage."""
    return [
        svg.rect(frame.px(s.start), top, frame.px(s.end) - frame.px(s.start), bottom - top, "span") for s in spans[1::2]
    ]


def stage_labels(frame: svg.Frame, spans: list[Span]) -> list[Markup]:
    """The names of the stages above the chart, moved aside before they touch; without those that find no room."""
    parts: list[Markup] = []
    limit = frame.right
    for span in reversed(spans):
        half = svg.text_width(span.label, 13) / 2
        middle = min(max(frame.px((span.start + span.end) / 2), frame.left + half), limit - half)
        if middle - half >= frame.left - 0.5:
            parts.append(svg.text(middle, frame.top - 16, span.label, "label", "middle"))
            limit = middle - half - 8
    return parts[::-1]


def small_frame(x: svg.Axis, y: svg.Axis) -> svg.Frame:
    """Where a small chart has its axes: below a title and a line of words."""
    return svg.Frame(46, 48, svg.SMALL - 56, 132, x, y)


def small_loss(title: str, points: list[svg.Point]) -> Markup:
    """The loss of one post-training step, over its optimizer steps."""
    smoothed = smooth(points, 15)
    frame = small_frame(svg.axis(points[0][0], points[-1][0], 4, least=1), svg.value_axis([y for _, y in points], 4))
    return svg.picture(
        svg.SMALL,
        222,
        f"Loss of {title}",
        f"From {round_to(smoothed[0][1], 3)} to {round_to(smoothed[-1][1], 3)} (smoothed).",
        svg.text(0, 15, title, "title"),
        svg.text(0, 32, "loss"),
        svg.axes(frame),
        svg.curve(frame, points, "c1 faint"),
        svg.curve(frame, smoothed, "c1 strong"),
        svg.text(frame.right, 219, "steps", "label", "end"),
    )


def checkpoint_chart(
    title: str, subtitle: str, series: list[Series], spans: list[Span], y: svg.Axis, chance: float = 0.0
) -> Markup:
    """One small chart over checkpoints: lines with interval bands, the chance line, stages below the axis.

    Without a subtitle the names of the series stand in its place, each in its colour.
    """
    frame = small_frame(svg.Axis(-0.5, max(spans[-1].end, 0.5)), y)
    words = svg.text(0, 32, subtitle)
    if not subtitle:
        names = [svg.element("tspan", s.label, class_=f"name {s.colour}", dx=9) for s in series]
        words = svg.element("text", *names, x=-9, y=32, class_="tick")
    parts = [svg.text(0, 15, title, "title"), words]
    parts += [*shades(frame, spans, frame.top, frame.bottom), svg.axes(frame)]
    if chance:
        parts.append(svg.line(frame.left, frame.py(chance), frame.right, frame.py(chance), "chance"))
    for s in series:
        parts.append(svg.band(frame, [(m.x, m.low) for m in s.marks], [(m.x, m.high) for m in s.marks], s.colour))
        parts.append(svg.curve(frame, [(m.x, m.value) for m in s.marks], f"{s.colour} strong"))
        parts += [svg.circle(frame.px(m.x), frame.py(m.value), 2.6, f"dot {s.colour}", m.tooltip) for m in s.marks]
    ends = [dict.fromkeys([s.marks[0].tooltip, s.marks[-1].tooltip]) for s in series]
    said = [f"{s.label}: {', at the end '.join(told)}" for s, told in zip(series, ends, strict=True)]
    return svg.picture(
        svg.SMALL, 222, f"{title}, {subtitle}".rstrip(", "), "; ".join(said), *parts, *span_ticks(frame, spans)
    )


def span_ticks(frame: svg.Frame, spans: list[Span]) -> list[Markup]:
    """Short names of the stages below the axis; slanted if they would touch, and then only as many as have room."""
    named = [(frame.px((s.start + s.end) / 2), s.label if len(s.label) <= 7 else f"{s.label[:6]}…") for s in spans]
    sides = [(x, svg.text_width(label, 13) / 2) for x, label in named]
    if all(a + half + 6 <= b - other for (a, half), (b, other) in pairwise(sides)):
        return [svg.text(x, frame.bottom + 15, label, "tick", "middle") for x, label in named]
    parts: list[Markup] = []
    last = -math.inf
    for x, label in named:
        if x - last >= 13:
            parts.append(svg.slanted(x + 4, frame.bottom + 13, label))
            last = x
    return parts
