"""Drawing SVG as text: elements, scales, axes, lines and bands.

Colours, fonts and line widths are classes of the page's style sheet, so that a chart follows the reader's
light or dark theme. Numbers are written with two decimals: the same input gives the same bytes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from smolmake.report.text import UNITS, round_to

Point = tuple[float, float]
WIDE, SMALL = 920.0, 292.0  # of a chart that has the page for itself, and of one of several side by side


def plain(value: float) -> str:
    """A coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def element(tag: str, *children: str, **attributes: str | float) -> Markup:
    """An element; text is escaped, `class_` stands for class and `stroke_width` for stroke-width."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value if isinstance(value, str) else plain(value))}"'
        for name, value in attributes.items()
    )
    inner = Markup("").join(children)
    return Markup(f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>")


def text(x: float, y: float, content: str, class_: str = "tick", anchor: str = "start") -> Markup:
    return element("text", content, x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def slanted(x: float, y: float, label: str) -> Markup:
    """A label that ends at the point and comes up to it from the left."""
    return element("text", label, class_="tick", text_anchor="end", transform=f"translate({x:.1f} {y:.1f}) rotate(-38)")


def tip(tooltip: str) -> Markup:
    """What an element says when it is pointed at."""
    return element("title", tooltip) if tooltip else Markup("")


def rect(x: float, y: float, width: float, height: float, class_: str, tooltip: str = "", rx: float = 0) -> Markup:
    """A rectangle, with corners of the radius `rx`."""
    corners = {"rx": rx} if rx else {}
    return element("rect", tip(tooltip), x=x, y=y, width=width, height=height, **corners, class_=class_)


def circle(x: float, y: float, radius: float, class_: str, tooltip: str = "") -> Markup:
    return element("circle", tip(tooltip), cx=x, cy=y, r=radius, class_=class_)


def picture(width: float, height: float, title: str, desc: str, *children: str) -> Markup:
    """A whole drawing; `title` names it and `desc` says in words what it shows."""
    words = element("title", title), element("desc", desc)
    box, about = f"0 0 {plain(width)} {plain(height)}", {"role": "img", "xmlns": "http://www.w3.org/2000/svg"}
    return element("svg", *words, *children, viewBox=box, width=width, height=height, **about)


def text_width(content: str, size: float) -> float:
    """About how wide a text is, in pixels: good enough to decide whether a label fits."""
    return 0.56 * size * len(content)


def fitted(content: str, size: float, room: float) -> str:
    """A text that fits into so many pixels, if need be without its end."""
    most = int(room / text_width("m", size))
    return content if len(content) <= most else f"{content[: most - 1]}…"


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with labelled ticks."""

    low: float
    high: float
    ticks: list[tuple[float, str]] = field(default_factory=list)


def nice_ticks(low: float, high: float, count: int, least: float = 0.0) -> list[float]:
    """About `count` round numbers from `low` to `high`, at least so far apart."""
    if not high > low:
        return [low]
    raw = max((high - low) / max(count, 1), least)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


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


def axis(low: float, high: float, count: int, least: float = 0.0) -> Axis:
    """An axis with about `count` ticks at round numbers, at least so far apart."""
    return Axis(low, high, tick_labels(nice_ticks(low, high, count, least)))


def value_axis(values: Sequence[float], count: int, zero: bool = False) -> Axis:
    """An axis that holds the values with some room, or zero and the values."""
    low, high = (0.0 if zero else min(values)), max(values)
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    return axis(low if zero else low - margin, high + margin, count)


@dataclass(frozen=True)
class Frame:
    """The rectangle that a chart is drawn in, and the scales of its axes."""

    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis

    def px(self, value: float) -> float:
        return self.left + (value - self.x.low) / (self.x.high - self.x.low or 1.0) * self.width

    def py(self, value: float) -> float:
        """`value` on the page; what is beyond the axis is drawn on its edge."""
        share = (value - self.y.low) / (self.y.high - self.y.low or 1.0)
        return self.top + (1 - min(1.0, max(0.0, share))) * self.height

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def right(self) -> float:
        return self.left + self.width


def axes(frame: Frame, x_labels: bool = True) -> Markup:
    """Grid lines and labels of the y axis, the base line, ticks and labels of the x axis."""
    parts: list[Markup] = []
    for value, label in frame.y.ticks:
        y = frame.py(value)
        parts.append(line(frame.left, y, frame.right, y, "grid"))
        parts.append(text(frame.left - 8, y + 4, label, "tick", "end"))
    parts.append(line(frame.left, frame.bottom, frame.right, frame.bottom, "axis"))
    if x_labels:
        for value, label in frame.x.ticks:
            x = frame.px(value)
            parts.append(line(x, frame.bottom, x, frame.bottom + 4, "axis"))
            parts.append(text(x, frame.bottom + 18, label, "tick", "middle"))
    return Markup("").join(parts)


def path(frame: Frame, points: Iterable[Point], class_: str, end: str = "") -> Markup:
    """Data points joined by straight lines."""
    places = "L".join(f"{plain(frame.px(x))} {plain(frame.py(y))}" for x, y in points)
    return element("path", d=f"M{places}{end}", class_=class_)


def curve(frame: Frame, points: Sequence[Point], class_: str) -> Markup:
    """A line through data points; where they are more than the frame can show, through the extremes of each stretch."""
    size = math.ceil(len(points) / frame.width)
    if size > 1:
        stretches = [points[start : start + size] for start in range(0, len(points), size)]
        points = [p for s in stretches for p in sorted({min(s, key=lambda p: p[1]), max(s, key=lambda p: p[1])})]
    return path(frame, points, f"line {class_}") if len(points) > 1 else Markup("")


def band(frame: Frame, lows: Sequence[Point], highs: Sequence[Point], class_: str) -> Markup:
    """The area between two lines: an interval; for a single point, a bar."""
    if len(lows) == 1:
        x = frame.px(lows[0][0])
        return line(x, frame.py(lows[0][1]), x, frame.py(highs[0][1]), f"whisker {class_}")
    return path(frame, [*lows, *reversed(highs)], f"band {class_}", "Z")
