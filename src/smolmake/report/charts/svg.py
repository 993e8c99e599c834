"""Drawing SVG as text: elements, scales, axes, lines and bands.

Colours, fonts and line widths are classes of the page's style sheet, so that a chart follows the reader's
light or dark theme. Numbers are written with two decimals: the same input gives the same bytes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Point = tuple[float, float]


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


def picture(width: float, height: float, title: str, desc: str, *children: str) -> Markup:
    """A whole drawing; `title` names it and `desc` says in words what it shows."""
    return element(
        "svg",
        element("title", title),
        element("desc", desc),
        *children,
        viewBox=f"0 0 {plain(width)} {plain(height)}",
        width=width,
        height=height,
        role="img",
        xmlns="http://www.w3.org/2000/svg",
    )


def text_width(content: str, size: float) -> float:
    """About how wide a text is, in pixels: good enough to decide whether a label fits."""
    return 0.56 * size * len(content)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with labelled ticks."""

    low: float
    high: float
    ticks: list[tuple[float, str]] = field(default_factory=list)


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


def path_of(points: Iterable[Point]) -> str:
    """Pixel points joined by straight lines."""
    return "M" + "L".join(f"{plain(x)} {plain(y)}" for x, y in points)


def curve(frame: Frame, points: Sequence[Point], class_: str) -> Markup:
    """A line through data points."""
    if len(points) < 2:
        return Markup("")
    return element("path", d=path_of((frame.px(x), frame.py(y)) for x, y in points), class_=f"line {class_}")


def band(frame: Frame, lows: Sequence[Point], highs: Sequence[Point], class_: str) -> Markup:
    """The area between two lines: an interval; for a single point, a bar."""
    if not lows:
        return Markup("")
    if len(lows) == 1:
        x = frame.px(lows[0][0])
        return line(x, frame.py(lows[0][1]), x, frame.py(highs[0][1]), f"whisker {class_}")
    edge = [(frame.px(x), frame.py(y)) for x, y in [*lows, *reversed(highs)]]
    return element("path", d=path_of(edge) + "Z", class_=f"band {class_}")


def dot(frame: Frame, point: Point, tooltip: str, class_: str, radius: float = 3) -> Markup:
    """A data point that says its value when pointed at."""
    return element(
        "circle",
        element("title", tooltip),
        cx=frame.px(point[0]),
        cy=frame.py(point[1]),
        r=radius,
        class_=f"dot {class_}",
    )
