"""What a page is made of: sections of charts, tables and details, each with the files it is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

Cell = str | Markup
COLOURS = 6


@dataclass(frozen=True)
class Fact:
    """One number of the headline."""

    label: str
    value: str
    note: str
    files: list[str]


@dataclass(frozen=True)
class Chart:
    """One drawing, or several small ones side by side, with a legend of (label, colour class)."""

    id: str
    caption: str
    pictures: list[Markup]
    files: list[str]
    legend: list[tuple[str, str]] = field(default_factory=list)
    kind: str = "Figure"


@dataclass(frozen=True)
class Table:
    """A table; the first `names` columns are text, the others numbers. A row of one cell is a heading."""

    id: str
    caption: str
    columns: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    files: list[str]
    names: int = 1
    folded: str = ""
    kind: str = "Table"

    def __post_init__(self) -> None:
        assert all(len(row) in (1, len(self.columns)) for row in self.rows), self.id


@dataclass(frozen=True)
class Item:
    """A piece of text shown as it is: what it is, what came before it (a prompt), and the text."""

    label: str
    text: str
    prompt: str = ""


@dataclass(frozen=True)
class Details:
    """Texts to open one group at a time: (summary, items)."""

    id: str
    caption: str
    groups: list[tuple[str, list[Item]]]
    files: list[str]
    first_open: bool = False
    kind: str = "Listing"


Block = Chart | Table | Details


@dataclass(frozen=True)
class ReportSection:
    """A heading, a few sentences, and what they speak of."""

    id: str
    title: str
    lead: str
    blocks: list[Block]


def source_colours(domains: dict[str, str]) -> dict[str, str]:
    """A colour class for each source: a hue for its domain, a tint for its place within the domain."""
    hues: dict[str, int] = {}
    members: dict[str, int] = {}
    colours = {}
    for source, domain in domains.items():
        hue = hues.setdefault(domain, len(hues) % COLOURS + 1)
        tint = members[domain] = members.get(domain, 0) + 1
        colours[source] = f"c{hue} t{min(tint, 4)}"
    return colours


def two_lines(first: str, second: str, colour: str = "") -> Markup:
    """A cell with a note under its value."""
    return Markup('{}<small class="{}">{}</small>' if colour else "{0}<small>{2}</small>").format(first, colour, second)


def verdict(word: str) -> Markup:
    """A verdict as a coloured word."""
    return Markup('<span class="verdict {}">{}</span>').format(word.replace(" ", "-"), word)


def shaded(row: Sequence[float | None], low: float, high: float) -> list[Cell]:
    """Cells of a heat map: the more a value is, between `low` and `high`, the stronger its colour."""
    cell = Markup('<span class="heat" style="--depth: {:.0f}%">{:.2f}</span>')
    return ["" if v is None else cell.format(6 + 74 * (v - low) / (high - low or 1.0), v) for v in row]


def upright(columns: list[str], rows: list[list[Cell]], first: str) -> tuple[list[Cell], list[list[Cell]]]:
    """A table as it is, or turned, with another heading of its first column, where it is wider than long."""
    if len(columns) <= len(rows) + 1:
        return [*columns], rows
    (_, *heads), *turned = (list(line) for line in zip(columns, *rows, strict=True))
    return [first, *heads], turned
