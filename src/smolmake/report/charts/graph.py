"""The graph of a recipe, drawn stage by stage: what is done, what is still to run, and what that costs.

Every stage is one card: its kinds of steps with their numbers, and GPU-hours, price and time where they are known.
Cards stand in the order of work, in rows of up to six. An arrow leads from a stage to the next; what else a stage
needs, and does not get through the one before it, its card says in words.
"""

from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from smolmake.errors import UserError
from smolmake.execution.kinds import KINDS
from smolmake.files import write_atomically
from smolmake.graph.stages import GraphStage
from smolmake.planning.plan import make_plan
from smolmake.planning.text import time_text
from smolmake.planning.workflow import load_workflow
from smolmake.report.artifacts import GraphData, GraphNode, graph_of
from smolmake.report.charts.svg import circle, element, fitted, line, picture, plain, rect, text, tip
from smolmake.report.text import amount, compact, duration, listed, plural, whole

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

    def count(self, between: str) -> str:
        """45 where all or none are done, else 3`between`45."""
        return (f"{whole(self.done)}{between}" if self.state == "partial" else "") + whole(self.total)


@dataclass(frozen=True)
class Card:
    """All steps of one stage; `notes` say what it took and what the rest will take."""

    title: str
    tally: Tally
    kinds: dict[str, Tally]
    notes: dict[str, str]

    @property
    def state(self) -> str:
        """In words: 3 of 45 done."""
        return f"{self.tally.count(' of ')} {'done' if self.tally.done else 'to run'}"


def cards(graph: GraphData) -> dict[GraphStage, Card]:
    """A card for each stage, in the order of work."""
    members: dict[GraphStage, list[GraphNode]] = {}
    for node in graph.nodes:
        members.setdefault(node.stage, []).append(node)
    return {stage: _card_of(stage, nodes, graph) for stage, nodes in members.items()}


def _card_of(stage: GraphStage, nodes: list[GraphNode], graph: GraphData) -> Card:
    done, left = [n for n in nodes if n.state == "done"], [n for n in nodes if n.state != "done"]
    kinds, kinds_done = Counter(n.kind for n in nodes), Counter(n.kind for n in done)
    tallies = {KINDS[kind].title: Tally(count, kinds_done[kind]) for kind, count in kinds.items()}
    seconds, spent = sum(n.seconds or 0.0 for n in done), sum(n.gpu_hours for n in done)
    hours, wait = sum(n.gpu_hours for n in left), graph.waits.get(stage.name, 0.0)
    notes = {
        "took": duration(seconds) if seconds > 0 else "",
        "GPU-h spent": compact(spent) if spent > 0 else "",
        "GPU-hours": amount(hours) if hours > 0 else "",
        graph.currency: amount(hours * graph.price) if hours > 0 and graph.price is not None else "",
        "wall-clock": time_text(wait / 3600) if wait >= 1 else "",
        "not counted": whole(unknown) if (unknown := sum(n.seconds is None for n in left)) else "",
    }
    title = stage.title if stage.pretrains else stage.title[:1].upper() + stage.title[1:]
    return Card(title, Tally(len(nodes), len(done)), tallies, {name: note for name, note in notes.items() if note})


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


def legend_of(graph: GraphData) -> list[tuple[str, str]]:
    """The legend of the states that occur."""
    states = {tally.state for card in cards(graph).values() for tally in (card.tally, *card.kinds.values())}
    return [entry for entry in LEGEND if entry[1] in states]


def draw_alone(graph: GraphData, name: str) -> Markup:
    """The figure as a file of its own: with a heading, its legend and its style, on its own paper."""
    legend: list[Markup] = []
    for number, (label, state) in enumerate(LEGEND):
        x = WIDTH - MARGIN - 68 * (len(LEGEND) - number)
        legend += [circle(x + 4, 22, 4, f"state {state}"), text(x + 15, 26, label)]
    paper = element("rect", width="100%", height="100%", rx=8, class_="paper")
    head = [text(MARGIN, 27, name, "heading"), text(MARGIN, 48, graph_headline(graph), "summary"), *legend]
    return draw_graph(graph, f"The steps of {name} by stage", 62.0, element("style", graph_style()), paper, *head)


def graph_style() -> Markup:
    """The style sheets of a drawing that stands alone."""
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
        parts += [f"{time_text(graph.wall / 3600)} wall-clock"] if graph.wall >= 1 else []
        if unknown := sum(node.seconds is None for node in left):
            parts.append(f"{whole(unknown)} not counted")
    return " · ".join(parts)


def draw_graph(
    graph: GraphData, title: str = "The steps of the run by stage", top: float = 0.0, *before: Markup
) -> Markup:
    """The whole figure, for a page with the report's style sheet; `before` stands in the space at its top."""
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
    return picture(WIDTH, y - GAP_Y + MARGIN, title, describe_graph(graph), *before, *parts)


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
    at, room = y + PADDING + 19, right - left
    title, after = fitted(card.title, 13.5, room), fitted(extra, 11.5, room)
    parts = [rect(x, y, width, height, "node", rx=8), text(left, y + PADDING + 11, title, "nodename")]
    parts.append(rect(left, at, room, 4, "track", rx=2))
    if share:
        parts.append(rect(left, at, room * share, 4, "state done", rx=2))
    at += LINE + 3
    parts.append(text(left, at, card.state, f"nodestate {card.tally.state}"))
    if extra:
        at += LINE
        parts.append(text(left, at, after))
    at += 4
    for name, tally in card.kinds.items():
        at += LINE
        parts += [circle(left + 3.5, at - 4, 3.5, f"state {tally.state}"), text(left + 13, at, name)]
        parts.append(text(right, at, tally.count("/"), "tick", "end"))
    at = y + height - PADDING - LINE * (len(card.notes) - 1) - 3
    if card.notes:
        parts.append(line(left, at - LINE - 2, right, at - LINE - 2, "grid"))
    for number, (label, value) in enumerate(card.notes.items()):
        parts += [text(left, at + number * LINE, label), text(right, at + number * LINE, value, "nodecost", "end")]
    told = f"{card.title}: {card.state}" + (f", {extra}" if extra != after else "")
    return element("g", tip(told), *parts, class_="card", data_stage=stage.name)


def _arrow(x: float, y: float, turns: bool, right: float) -> Markup:
    """To the card at (x, y) from the one on its left, or from the last one of the row above, through the gap."""
    at = y + PADDING + 21
    head = f"M{plain(x - 7)} {plain(at - 4)}L{plain(x - 1.5)} {plain(at)}L{plain(x - 7)} {plain(at + 4)}"
    if not turns:
        return element("path", d=f"M{plain(x - GAP_X + 1)} {plain(at)}H{plain(x - 2)}{head}", class_="edge")
    lane, low = y - GAP_Y / 2, x - MARGIN / 2 - 2
    path = f"M{plain(right - 40)} {plain(y - GAP_Y)}V{plain(lane - 6)}q0 6 -6 6H{plain(low + 6)}q-6 0 -6 6"
    return element("path", d=f"{path}V{plain(at - 6)}q0 6 6 6H{plain(x - 2)}{head}", class_="edge")


def write_plan_picture(recipe: str, root: Path, file: Path) -> None:
    """Write what a recipe has done and would run, stage by stage, with its price, as an SVG file.

    Raises:
        UserError: if the recipe cannot be planned, or the file not be written.
    """
    if file.suffix != ".svg":
        raise UserError("the picture is an SVG file", file=file, remedy="give a name that ends in .svg")
    if not file.parent.is_dir():
        raise UserError("no such folder", file=file.parent, remedy="make it, or write the picture elsewhere")
    workflow = load_workflow(recipe, root)
    write_atomically(file, draw_alone(graph_of(make_plan(workflow)), workflow.recipe.name) + "\n")
