"""The graph of a recipe, drawn stage by stage: what is done, what is still to run, and what that costs.

Every stage is one card: its kinds of steps with their numbers, and GPU-hours, price and time where they are known.
Cards stand in the order of work, in rows of up to six. An arrow leads from a stage to the next; what else a stage
needs, and does not get through the one before it, its card says in words.
"""

from collections import Counter
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup

from smolmake.execution.kinds import KINDS
from smolmake.graph.stages import GraphStage
from smolmake.report.artifacts import GraphData, GraphNode
from smolmake.report.charts.svg import element, line, picture, plain, text
from smolmake.report.text import amount, compact, duration, listed, plural, span, whole

WIDTH = 928.0
CARDS_A_ROW = 6
GAP_X, GAP_Y, MARGIN = 16.0, 30.0, 12.0
WIDEST = 200.0
PADDING, TITLE, LINE, FOOT = 10.0, 24.0, 16.0, 18.0
LEGEND = [("done", "done"), ("in part", "partial"), ("to run", "missing")]


@dataclass(frozen=True)
class Tally:
    """How many steps there are and how many of them are done."""

    total: int
    done: int

    @property
    def state(self) -> str:
        return "done" if self.done == self.total else "partial" if self.done else "missing"


@dataclass(frozen=True)
class Card:
    """All steps of one stage. `seconds` and `spent` (GPU-hours) are of those done, `gpu_hours` of those to run.

    `wait` is the stage's share of the longest chain of steps to run, in seconds; `unknown` counts steps to run whose
    time nobody knows before.
    """

    title: str
    tally: Tally
    kinds: dict[str, Tally]
    seconds: float
    spent: float
    gpu_hours: float
    wait: float
    unknown: int
    price: float | None
    currency: str

    @property
    def state(self) -> str:
        """In words: 3 of 45 done."""
        total, done = whole(self.tally.total), whole(self.tally.done)
        words = {"done": f"{total} done", "partial": f"{done} of {total} done", "missing": f"{total} to run"}
        return words[self.tally.state]

    @property
    def notes(self) -> dict[str, str]:
        """What it took and what the rest will take."""
        notes = {}
        if self.seconds > 0:
            notes["took"] = duration(self.seconds)
        if self.spent > 0:
            notes["GPU-h spent"] = compact(self.spent)
        if self.gpu_hours > 0:
            notes["GPU-hours"] = amount(self.gpu_hours)
            if self.price is not None:
                notes[self.currency] = amount(self.gpu_hours * self.price)
        if self.wait >= 1:
            notes["wall-clock"] = span(self.wait)
        if self.unknown > 0:
            notes["not counted"] = whole(self.unknown)
        return notes


def cards(graph: GraphData) -> dict[GraphStage, Card]:
    """A card for each stage, in the order of work."""
    members: dict[GraphStage, list[GraphNode]] = {}
    for node in graph.nodes:
        members.setdefault(node.stage, []).append(node)
    return {stage: _card_of(stage, nodes, graph) for stage, nodes in members.items()}


def _card_of(stage: GraphStage, nodes: list[GraphNode], graph: GraphData) -> Card:
    done, left = [n for n in nodes if n.state == "done"], [n for n in nodes if n.state != "done"]
    kinds, kinds_done = Counter(n.kind for n in nodes), Counter(n.kind for n in done)
    return Card(
        title=stage.title if stage.pretrains else stage.title[:1].upper() + stage.title[1:],
        tally=Tally(len(nodes), len(done)),
        kinds={KINDS[kind].title: Tally(count, kinds_done[kind]) for kind, count in kinds.items()},
        seconds=sum(n.seconds or 0.0 for n in done),
        spent=sum(n.gpu_hours for n in done),
        gpu_hours=sum(n.gpu_hours for n in left),
        wait=graph.waits.get(stage.name, 0.0),
        unknown=sum(n.seconds is None for n in left),
        price=graph.price,
        currency=graph.currency,
    )


def needs(graph: GraphData) -> dict[GraphStage, list[GraphStage]]:
    """For each stage the earlier stages that it needs, without those that follow from others."""
    stage_of = {node.key: node.stage for node in graph.nodes}
    order = list(dict.fromkeys(stage_of.values()))
    rank = {stage: number for number, stage in enumerate(order)}
    origins: dict[GraphStage, set[GraphStage]] = {stage: set() for stage in order}
    for a, b in graph.edges:
        if a in stage_of and b in stage_of and rank[stage_of[a]] < rank[stage_of[b]]:
            origins[stage_of[b]].add(stage_of[a])
    reach: dict[GraphStage, set[GraphStage]] = {}
    for stage in order:
        reach[stage] = origins[stage].union(*(reach[other] for other in origins[stage]))
    implied = {stage: set().union(*(reach[other] for other in origins[stage])) for stage in order}
    return {stage: sorted(origins[stage] - implied[stage], key=rank.__getitem__) for stage in order}


def draw_graph(graph: GraphData) -> Markup:
    """The whole figure, for a page with the report's style sheet."""
    return _draw(graph, 0.0)


def legend_of(graph: GraphData) -> list[tuple[str, str]]:
    """The legend of the states that occur."""
    states = {tally.state for card in cards(graph).values() for tally in (card.tally, *card.kinds.values())}
    return [entry for entry in LEGEND if entry[1] in states]


def draw_alone(graph: GraphData, name: str) -> Markup:
    """The figure as a file of its own: with a heading, its legend and its style, on its own paper."""
    legend: list[Markup] = []
    for number, (label, state) in enumerate(LEGEND):
        x = WIDTH - MARGIN - 68 * (len(LEGEND) - number)
        legend += [element("circle", cx=x + 4, cy=22, r=4, class_=f"state {state}"), text(x + 15, 26, label)]
    paper = element("rect", width="100%", height="100%", rx=8, class_="paper")
    head = [text(MARGIN, 27, name, "heading"), text(MARGIN, 48, graph_headline(graph), "summary"), *legend]
    return _draw(graph, 62.0, element("style", _style()), paper, *head, name=name)


def _style() -> Markup:
    folder = files("smolmake.report")
    return Markup("\n".join((folder / name).read_text() for name in ("palette.css.j2", "graph.css.j2")))


def graph_headline(graph: GraphData) -> str:
    """The whole graph in one line."""
    done = sum(node.state == "done" for node in graph.nodes)
    left = [node for node in graph.nodes if node.state != "done"]
    hours = sum(node.gpu_hours for node in left)
    parts = [plural(len(graph.nodes), "step"), f"{whole(done)} done"]
    if left:
        parts.append(f"{whole(len(left))} to run")
        if hours:
            parts.append(f"{amount(hours)} GPU-hours")
            parts += [f"{amount(hours * graph.price)} {graph.currency}"] if graph.price is not None else []
        parts += [f"{span(graph.wall)} wall-clock"] if graph.wall >= 1 else []
        if unknown := sum(node.seconds is None for node in left):
            parts.append(f"{whole(unknown)} not counted")
    return " · ".join(parts)


def _draw(graph: GraphData, top: float, *before: Markup, name: str = "") -> Markup:
    by_stage, before_it = cards(graph), needs(graph)
    stages = list(by_stage)
    rows = -(-len(stages) // CARDS_A_ROW)
    columns = -(-len(stages) // rows)
    width = min(WIDEST, (WIDTH - 2 * MARGIN - (columns - 1) * GAP_X) / columns)
    extra = {stage: _after(stages, stage, before_it[stage]) for stage in stages}
    parts: list[Markup] = []
    y = top + MARGIN
    for start in range(0, len(stages), columns):
        row = stages[start : start + columns]
        height = max(card_height(by_stage[stage], extra[stage]) for stage in row)
        for number, stage in enumerate(row):
            x = MARGIN + number * (width + GAP_X)
            if start + number and stages[start + number - 1] in before_it[stage]:
                parts.append(_arrow(x, y, number == 0, MARGIN + (columns - 1) * (width + GAP_X) + width))
            parts.append(_card(stage, by_stage[stage], extra[stage], x, y, width, height))
        y += height + GAP_Y
    label = f"The steps of {name} by stage" if name else "The steps of the run by stage"
    return picture(WIDTH, y - GAP_Y + MARGIN, label, describe_graph(graph), *before, *parts)


def describe_graph(graph: GraphData) -> str:
    """The drawing in words."""
    said = [
        f"{card.title}: {', '.join([card.state, *(f'{k} {v}' for k, v in card.notes.items())])}."
        for card in cards(graph).values()
    ]
    return " ".join([f"{graph_headline(graph)}.", *said])


def _after(stages: list[GraphStage], stage: GraphStage, origins: list[GraphStage]) -> str:
    """The stages that a card names because no arrow comes from them."""
    number = stages.index(stage)
    others = [origin.title for origin in origins if number == 0 or origin != stages[number - 1]]
    return f"after {listed(others)}" if others else ""


def card_height(card: Card, extra: str) -> float:
    lines = bool(extra) + 1 + len(card.kinds) + len(card.notes)
    return 2 * PADDING + TITLE + lines * LINE + (FOOT if card.notes else 0.0)


def _card(stage: GraphStage, card: Card, extra: str, x: float, y: float, width: float, height: float) -> Markup:
    """A card: title, state and a bar of what is done, kinds with their numbers, and at its foot the cost."""
    left, right, share = x + PADDING, x + width - PADDING, card.tally.done / card.tally.total
    parts = [element("rect", x=x, y=y, width=width, height=height, rx=8, class_="node")]
    parts.append(text(left, y + PADDING + 11, card.title, "nodename"))
    at = y + PADDING + 19
    parts.append(element("rect", x=left, y=at, width=right - left, height=4, rx=2, class_="track"))
    if share:
        parts.append(element("rect", x=left, y=at, width=(right - left) * share, height=4, rx=2, class_="state done"))
    at += LINE + 3
    parts.append(text(left, at, card.state, f"nodestate {card.tally.state}"))
    if extra:
        at += LINE
        parts.append(text(left, at, extra))
    at += 4
    for name, tally in card.kinds.items():
        at += LINE
        parts.append(element("circle", cx=left + 3.5, cy=at - 4, r=3.5, class_=f"state {tally.state}"))
        count = whole(tally.total) if tally.state != "partial" else f"{whole(tally.done)}/{whole(tally.total)}"
        parts += [text(left + 13, at, name), text(right, at, count, "tick", "end")]
    at = y + height - PADDING - LINE * (len(card.notes) - 1) - 3
    if card.notes:
        parts.append(line(left, at - LINE - 2, right, at - LINE - 2, "grid"))
    for number, (label, value) in enumerate(card.notes.items()):
        parts += [text(left, at + number * LINE, label), text(right, at + number * LINE, value, "nodecost", "end")]
    return element("g", element("title", f"{card.title}: {card.state}"), *parts, class_="card", data_stage=stage.name)


def _arrow(x: float, y: float, turns: bool, right: float) -> Markup:
    """To the card at (x, y) from the one on its left, or from the last one of the row above, through the gap."""
    at = y + PADDING + 21
    head = f"M{plain(x - 7)} {plain(at - 4)}L{plain(x - 1.5)} {plain(at)}L{plain(x - 7)} {plain(at + 4)}"
    if not turns:
        return element("path", d=f"M{plain(x - GAP_X + 1)} {plain(at)}H{plain(x - 2)}{head}", class_="edge")
    lane, low = y - GAP_Y / 2, x - MARGIN / 2 - 2
    path = f"M{plain(right - 40)} {plain(y - GAP_Y)}V{plain(lane - 6)}q0 6 -6 6H{plain(low + 6)}q-6 0 -6 6"
    return element("path", d=f"{path}V{plain(at - 6)}q0 6 6 6H{plain(x - 2)}{head}", class_="edge")
