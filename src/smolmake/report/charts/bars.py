"""Charts of bars: throughput, mixtures, the mark of a change in a table."""

from dataclasses import dataclass

from markupsafe import Markup

from smolmake.report.charts import svg
from smolmake.report.text import compact, percent


@dataclass(frozen=True)
class BarPart:
    """One piece of a stacked bar; `number` stands for the label where that has no room."""

    number: int
    label: str
    share: float
    colour: str
    tooltip: str


def throughput_chart(bars: list[tuple[str, float, float, float, str]], desc: str) -> Markup:
    """Columns (label, median, 10 % and 90 % quantile, colour): tokens per second of each segment."""
    x_axis, y_axis = svg.Axis(0, len(bars)), svg.value_axis([b[3] for b in bars], 4, zero=True)
    frame = svg.Frame(58, 26, svg.WIDE - 70, 170, x_axis, y_axis)
    slot, longest = frame.width / len(bars), max(svg.text_width(b[0], 12) for b in bars)
    width, tilted = min(0.62 * slot, 64), longest > slot - 6
    parts = [svg.axes(frame), svg.text(14, 12, "tokens a second", "label")]
    for k, (label, median, low, high, colour) in enumerate(bars):
        x, y = frame.px(k + 0.5), frame.py(median)
        tooltip = f"{label}: median {compact(median)} a second, 80% of steps {compact(low)} to {compact(high)}"
        parts.append(svg.rect(x - width / 2, y, width, frame.bottom - y, f"fill {colour}", tooltip, rx=2))
        parts.append(svg.line(x, frame.py(low), x, frame.py(high), "error"))
        if slot > 44:
            parts.append(svg.text(x + 5, y - 6, compact(median), "value"))
        if tilted and slot >= 14:
            parts.append(svg.slanted(x + 4, frame.bottom + 14, label))
        elif not tilted:
            parts.append(svg.text(x, frame.bottom + 18, label, "tick", "middle"))
    height = frame.bottom + (18 + 0.62 * longest if tilted else 28)
    return svg.picture(svg.WIDE, height, "Throughput by segment", desc, *parts)


def stacked_bars(title: str, rows: list[tuple[str, str, list[BarPart]]], desc: str) -> Markup:
    """One bar a row (label, note at its end, parts that add up to one)."""
    left, width, pitch = 118.0, svg.WIDE - 118 - 94, 46.0
    parts: list[Markup] = []
    for k, (label, note, pieces) in enumerate(rows):
        y, x = 6 + k * pitch, left
        parts.append(svg.text(left - 12, y + 22, label, "label", "end"))
        for piece in pieces:
            length = piece.share * width
            shape = svg.rect(x, y, max(length - 1.5, 0.5), 34, f"fill {piece.colour}", rx=2)
            parts.append(svg.element("g", svg.tip(piece.tooltip), shape, *piece_words(piece, length, x, y)))
            x += length
        parts.append(svg.text(left + width + 8, y + 22, note, "tick"))
    return svg.picture(svg.WIDE, 6 + len(rows) * pitch, title, desc, *parts)


def piece_words(piece: BarPart, length: float, x: float, y: float) -> list[Markup]:
    """What is written on a piece of this length: its name or its number, and its share, as far as there is room."""
    share, number, class_ = percent(piece.share, 0), str(piece.number), f"onfill {piece.colour}"
    if length > svg.text_width(piece.label, 11) + 12:
        return [svg.text(x + 7, y + 15, piece.label, class_), svg.text(x + 7, y + 28, share, class_)]
    if length > svg.text_width(share, 11) + 8:
        return [svg.text(x + 5, y + 15, number, class_), svg.text(x + 5, y + 28, share, class_)]
    if length > svg.text_width(number, 11) + 4:
        return [svg.text(x + length / 2 - 0.75, y + 22, number, class_, "middle")]
    return []


def change_mark(change: float, low: float, high: float, reach: float, verdict: str) -> Markup:
    """A change with its interval on a line with zero in the middle, for a cell of a table."""
    half = 80.0

    def px(value: float) -> float:
        return half + min(1.0, max(-1.0, value / (reach or 1.0))) * (half - 5)

    mark = verdict.replace(" ", "-")
    parts = [svg.line(half, 1, half, 17, "axis"), svg.line(px(low), 9, px(high), 9, f"range {mark}")]
    parts.append(svg.circle(px(change), 9, 4, f"mark {mark}"))
    return svg.picture(2 * half, 18, verdict, f"{change:.3f}, from {low:.3f} to {high:.3f}", *parts)
