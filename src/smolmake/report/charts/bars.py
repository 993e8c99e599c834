"""Charts of bars and cells: throughput, mixtures, the heat map, the mark of a change in a table."""

from dataclasses import dataclass

from markupsafe import Markup

from smolmake.report.charts.lines import WIDE, slanted, value_axis
from smolmake.report.charts.svg import Axis, Frame, axes, element, line, picture, text, text_width
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
    frame = Frame(58, 26, WIDE - 70, 170, Axis(0, len(bars)), value_axis([b[3] for b in bars], 4, zero=True))
    slot = frame.width / len(bars)
    width = min(0.62 * slot, 64)
    tilted = max(text_width(b[0], 12) for b in bars) > slot - 6
    parts = [axes(frame), text(14, 12, "tokens a second", "label")]
    for k, (label, median, low, high, colour) in enumerate(bars):
        x, y = frame.px(k + 0.5), frame.py(median)
        tooltip = f"{label}: median {compact(median)} a second, 80% of steps {compact(low)} to {compact(high)}"
        parts.append(
            element(
                "rect",
                element("title", tooltip),
                x=x - width / 2,
                y=y,
                width=width,
                height=frame.bottom - y,
                rx=2,
                class_=f"fill {colour}",
            )
        )
        parts.append(line(x, frame.py(low), x, frame.py(high), "error"))
        if slot > 44:
            parts.append(text(x + 5, y - 6, compact(median), "value"))
        if tilted and slot >= 14:
            parts.append(slanted(x + 4, frame.bottom + 14, label))
        elif not tilted:
            parts.append(text(x, frame.bottom + 18, label, "tick", "middle"))
    longest = max(text_width(b[0], 12) for b in bars)
    height = frame.bottom + (18 + 0.62 * longest if tilted else 28)
    return picture(WIDE, height, "Throughput by segment", desc, *parts)


def stacked_bars(title: str, rows: list[tuple[str, str, list[BarPart]]], desc: str) -> Markup:
    """One bar a row (label, note at its end, parts that add up to one)."""
    left, width, pitch = 118.0, WIDE - 118 - 64, 46.0
    parts: list[Markup] = []
    for k, (label, note, pieces) in enumerate(rows):
        y, x = 6 + k * pitch, left
        parts.append(text(left - 12, y + 22, label, "label", "end"))
        for piece in pieces:
            length = piece.share * width
            shape = element(
                "rect", x=x, y=y, width=max(length - 1.5, 0.5), height=34, rx=2, class_=f"fill {piece.colour}"
            )
            words = piece_words(piece, length, x, y)
            parts.append(element("g", element("title", piece.tooltip), shape, *words))
            x += length
        parts.append(text(left + width + 8, y + 22, note, "tick"))
    return picture(WIDE, 6 + len(rows) * pitch, title, desc, *parts)


def piece_words(piece: BarPart, length: float, x: float, y: float) -> list[Markup]:
    """What is written on a piece of this length: its name or its number, and its share, as far as there is room."""
    share, number, class_ = percent(piece.share, 0), str(piece.number), f"onfill {piece.colour}"
    if length > text_width(piece.label, 11) + 12:
        return [text(x + 7, y + 15, piece.label, class_), text(x + 7, y + 28, share, class_)]
    if length > text_width(share, 11) + 8:
        return [text(x + 5, y + 15, number, class_), text(x + 5, y + 28, share, class_)]
    if length > text_width(number, 11) + 4:
        return [text(x + length / 2 - 0.75, y + 22, number, class_, "middle")]
    return []


def heat_map(
    title: str,
    columns: list[tuple[str, str]],
    blocks: list[tuple[str, list[str], list[list[float | None]]]],
    decimals: int,
    desc: str,
) -> Markup:
    """Blocks of rows (heading, row labels, values); each has its own scale, a stronger colour is more."""
    left, pitch = 132.0, 32.0
    width = (WIDE - left) / max(len(columns), 1)
    parts: list[Markup] = []
    for k, (name, note) in enumerate(columns):
        x = left + (k + 0.5) * width
        parts += [text(x, 14, name, "label", "middle"), text(x, 29, note, "tick", "middle")]
    y = 40.0
    for heading, labels, rows in blocks:
        parts.append(text(0, y + 14, heading, "label strong"))
        y += 22
        present = [v for row in rows for v in row if v is not None]
        low, high = min(present, default=0.0), max(present, default=1.0)
        for label, row in zip(labels, rows, strict=True):
            parts.append(text(left - 12, y + 20, label, "tick", "end"))
            for k, value in enumerate(row):
                if value is None:
                    continue
                depth = (value - low) / (high - low or 1.0)
                x = left + k * width
                tooltip = f"{label}, {columns[k][0]}: {heading.lower()} {value:.3f}"
                parts.append(
                    element(
                        "rect",
                        element("title", tooltip),
                        x=x + 1,
                        y=y + 1,
                        width=width - 2,
                        height=pitch - 2,
                        rx=3,
                        class_="heat",
                        fill_opacity=0.06 + 0.74 * depth,
                    )
                )
                parts.append(text(x + width / 2, y + 20, f"{value:.{decimals}f}", "cell", "middle"))
            y += pitch
        y += 12
    return picture(WIDE, y, title, desc, *parts)


def change_mark(change: float, low: float, high: float, reach: float, verdict: str) -> Markup:
    """A change with its interval on a line with zero in the middle, for a cell of a table."""
    half = 80.0

    def px(value: float) -> float:
        return half + min(1.0, max(-1.0, value / (reach or 1.0))) * (half - 5)

    mark = verdict.replace(" ", "-")
    return picture(
        2 * half,
        18,
        verdict,
        f"{change:.3f}, from {low:.3f} to {high:.3f}",
        line(half, 1, half, 17, "axis"),
        line(px(low), 9, px(high), 9, f"range {mark}"),
        element("circle", cx=px(change), cy=9, r=4, class_=f"mark {mark}"),
    )
