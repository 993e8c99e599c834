"""The graph of the run, drawn by stages of work: steps of one kind and stage are one node.

The layout: layers by longest path, left to right, in bands of a few layers so that it fits a page; the
longest path lies on the middle row, all else above or below it. Arrows that follow from others are left out.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from smolmake.report.inputs import GraphData, GraphNode, ReportArtefact, group_of_name, stage_name
from smolmake.report.svg import element, picture, plain, text
from smolmake.report.text import duration, listed, plural

LAYERS_A_BAND = 8
NODE_WIDTH, NODE_HEIGHT = 98.0, 70.0
GAP_Y = 24.0
WIDTH = 928.0
KIND_NAMES = {
    "toyfiles": "Raw files",
    "documents": "Documents",
    "tokenizer": "Tokenizer",
    "shards": "Shards",
    "tokenizer_analysis": "Analysis",
    "mixture": "Mixture",
    "ledger": "Ledger",
    "alignment": "Training",
    "segment": "Training",
    "posttraining": "Training",
    "preferences": "Preferences",
    "merge": "Merge",
    "evaluation": "Evaluation",
    "report": "Report",
}
OWN_STAGE = ("mixture", "segment", "posttraining", "alignment")


@dataclass(frozen=True)
class Merged:
    """All steps of one kind and stage."""

    title: str
    stage: str
    total: int
    done: int
    seconds: float

    @property
    def state(self) -> str:
        return "done" if self.done == self.total else "partial" if self.done else "missing"


@dataclass(frozen=True)
class Place:
    """Where a node lies: its layer, and its row (0 is the middle one)."""

    layer: int
    row: int


Key = tuple[str, str]
Edges = set[tuple[Key, Key]]


def merge_steps(graph: GraphData, artefacts: list[ReportArtefact]) -> tuple[dict[Key, Merged], Edges]:
    """Steps merged by kind and stage, and the edges between what they were merged into."""
    groups = {(a.kind, a.path.name): a.group for a in artefacts}
    members: dict[Key, list[GraphNode]] = defaultdict(list)
    key_of: dict[str, Key] = {}
    for node in graph.nodes:
        group = groups.get((node.kind, f"{node.name}-{node.id}")) or group_of_name(node.name) or ""
        key_of[node.key] = (node.kind, group if node.kind in OWN_STAGE else "")
        members[key_of[node.key]].append(node)
    merged = {}
    for (kind, group), nodes in members.items():
        done = [n for n in nodes if n.state == "done"]
        merged[kind, group] = Merged(
            KIND_NAMES.get(kind, kind),
            stage_name(group) if group else "",
            len(nodes),
            len(done),
            sum(n.seconds or 0.0 for n in done),
        )
    edges = {(key_of[a], key_of[b]) for a, b in graph.edges if a in key_of and b in key_of}
    return merged, {(a, b) for a, b in edges if a != b}


def without_cycles(nodes: Iterable[Key], edges: Edges) -> Edges:
    """Merging may close a circle; the edges that lead back are left out."""
    after: dict[Key, list[Key]] = defaultdict(list)
    for a, b in sorted(edges):
        after[a].append(b)
    kept: Edges = set()
    finished: set[Key] = set()
    open_: set[Key] = set()

    def visit(node: Key) -> None:
        open_.add(node)
        for target in after[node]:
            if target in open_:
                continue
            kept.add((node, target))
            if target not in finished:
                visit(target)
        open_.remove(node)
        finished.add(node)

    for node in nodes:
        if node not in finished:
            visit(node)
    return kept


def longest_paths(nodes: Iterable[Key], edges: Edges) -> dict[Key, int]:
    """The layer of each node: the length of the longest path that leads to it."""
    layers = dict.fromkeys(nodes, 0)
    for _ in range(len(layers)):
        moved = False
        for a, b in edges:
            if layers[b] < layers[a] + 1:
                layers[b], moved = layers[a] + 1, True
        if not moved:
            break
    return layers


def reduced(edges: Edges, layers: dict[Key, int]) -> Edges:
    """Only the edges that do not follow from others (transitive reduction of an acyclic graph)."""
    after: dict[Key, set[Key]] = defaultdict(set)
    for a, b in edges:
        after[a].add(b)
    reach: dict[Key, set[Key]] = {}
    for node in sorted(layers, key=lambda n: (-layers[n], n)):
        reach[node] = after[node].union(*(reach[n] for n in after[node]))
    return {(a, b) for a, b in edges if not any(b in reach[n] for n in after[a] if n != b)}


def place(nodes: Iterable[Key], edges: Edges) -> dict[Key, Place]:
    """Layer and row of each node."""
    layers = longest_paths(nodes, edges)
    trunk = longest_chain(layers, edges)
    for node in sorted(layers, key=lambda n: (-layers[n], n)):
        targets, origins = [b for a, b in edges if a == node], [a for a, b in edges if b == node]
        if targets and len(origins) <= len(targets):
            layers[node] = min(layers[t] for t in targets) - 1
    places: dict[Key, Place] = {}
    taken: dict[int, int] = defaultdict(int)
    for node in sorted(layers, key=lambda n: (layers[n], n)):
        if node in trunk:
            places[node] = Place(layers[node], 0)
        else:
            count = taken[layers[node]]
            taken[layers[node]] += 1
            places[node] = Place(layers[node], -(count // 2 + 1) if count % 2 == 0 else count // 2 + 1)
    return places


def longest_chain(layers: dict[Key, int], edges: Edges) -> set[Key]:
    """The nodes of one longest path; where there is a choice, training comes first."""
    chain: set[Key] = set()
    node = max(sorted(layers), key=lambda n: layers[n], default=None)
    while node is not None:
        chain.add(node)
        before = [a for a, b in edges if b == node and layers[a] == layers[node] - 1]
        node = max(
            sorted(before),
            key=lambda n: n[0] in ("segment", "posttraining", "alignment", "merge"),
            default=None,
        )
    return chain


def draw_graph(graph: GraphData, artefacts: list[ReportArtefact]) -> Markup:
    """The whole figure."""
    merged, edges = merge_steps(graph, artefacts)
    edges = without_cycles(merged, edges)
    edges = reduced(edges, longest_paths(merged, edges))
    places = place(merged, edges)
    count = 1 + max(p.layer for p in places.values())
    bands = -(-count // LAYERS_A_BAND)
    wide = -(-count // bands)
    gap = min(WIDTH / wide - NODE_WIDTH, 64.0)
    pitch, first = NODE_WIDTH + gap, gap / 2 + 4
    corners: dict[Key, tuple[float, float]] = {}
    tops: list[float] = []
    y = 4.0
    for number in range(bands):
        inside = {k: p for k, p in places.items() if p.layer // wide == number}
        rows = [p.row for p in inside.values()] or [0]
        y += 0 if number == 0 else GAP_Y + 14
        tops.append(y)
        for key, p in inside.items():
            corners[key] = (
                first + p.layer % wide * pitch,
                y + (p.row - min(rows)) * (NODE_HEIGHT + GAP_Y),
            )
        y += (max(rows) - min(rows) + 1) * (NODE_HEIGHT + GAP_Y) - GAP_Y
    long = sorted({a for a, b in edges if places[b].layer - places[a].layer > 1 or places[b].layer % wide == 0})
    parts = []
    for a, b in sorted(edges):
        aside = 4.0 * (long.index(a) - (len(long) - 1) / 2) if a in long else 0.0
        path = route(corners[a], corners[b], places[a], places[b], tops, wide, gap, max(-12.0, min(12.0, aside)))
        parts.append(element("path", d=path, class_="edge"))
    parts += [draw_node(merged[key], *corners[key]) for key in sorted(merged, key=lambda k: corners[k])]
    width = max(first + wide * pitch - gap / 2 + 4, WIDTH)
    return picture(width, y + 4, "The steps of the run", describe(merged, edges), *parts)


def describe(merged: dict[Key, Merged], edges: Edges) -> str:
    """The drawing in words."""
    unfinished = [f"{m.title} {m.stage}".strip() for m in merged.values() if m.state != "done"]
    return (
        f"{plural(sum(m.total for m in merged.values()), 'step')} in {plural(len(merged), 'node')} joined by "
        f"{plural(len(edges), 'arrow')}. " + (f"Not finished: {listed(unfinished)}." if unfinished else "All done.")
    )


def draw_node(node: Merged, x: float, y: float) -> Markup:
    """A card: what it is, for which stage, how much of it is done, how long it took."""
    tip = f"{node.title} {node.stage}: {node.done} of {node.total} done, {duration(node.seconds)}"
    notes = [
        (node.stage, "nodenote"),
        (f"{node.done} of {node.total} done", f"nodestate {node.state}"),
        (duration(node.seconds) if node.seconds else "", "nodenote"),
    ]
    lines = [text(x + 10, y + 18, node.title, "nodename")]
    lines += [text(x + 10, y + 33 + 14.5 * k, *note) for k, note in enumerate(n for n in notes if n[0])]
    return element(
        "g",
        element("title", tip),
        element("rect", x=x, y=y, width=NODE_WIDTH, height=NODE_HEIGHT, rx=7, class_="node"),
        element("rect", x=x, y=y + 8, width=3.5, height=NODE_HEIGHT - 16, rx=1.7, class_=f"state {node.state}"),
        *lines,
    )


def route(
    a: tuple[float, float],
    b: tuple[float, float],
    pa: Place,
    pb: Place,
    tops: list[float],
    wide: int,
    gap: float,
    aside: float,
) -> str:
    """From the right side of one node to the left side of another.

    Neighbours are joined by a curve. Longer edges run through the gaps between layers and rows, and from one
    band to the next through the gap above it, each origin's edges `aside` of the others'.
    """
    x1, y1, x2, y2 = a[0] + NODE_WIDTH, a[1] + NODE_HEIGHT / 2, b[0], b[1] + NODE_HEIGHT / 2
    same_band = pa.layer // wide == pb.layer // wide
    if same_band and pb.layer - pa.layer == 1:
        middle = (x1 + x2) / 2
        start, end, half = f"{plain(x1)} {plain(y1)}", f"{plain(x2)} {plain(y2)}", plain(middle)
        return f"M{start}C{half} {plain(y1)} {half} {plain(y2)} {end}"
    if same_band:
        lane = b[1] - GAP_Y / 2 if y2 > y1 else b[1] + NODE_HEIGHT + GAP_Y / 2
    else:
        lane = tops[pb.layer // wide] - (GAP_Y + 14) / 2
    lane += aside * (0.6 if same_band else 1.0)
    down, up = x1 + gap / 2 + 0.4 * aside, x2 - gap / 2 + 0.4 * aside
    return rounded([(x1, y1), (down, y1), (down, lane), (up, lane), (up, y2), (x2, y2)], 7)


def rounded(points: list[tuple[float, float]], radius: float) -> str:
    """A path of straight lines with rounded corners."""
    path = f"M{plain(points[0][0])} {plain(points[0][1])}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        into, out = towards(corner, before, radius), towards(corner, after, radius)
        path += (
            f"L{plain(into[0])} {plain(into[1])}Q{plain(corner[0])} {plain(corner[1])} {plain(out[0])} {plain(out[1])}"
        )
    return path + f"L{plain(points[-1][0])} {plain(points[-1][1])}"


def towards(start: tuple[float, float], goal: tuple[float, float], distance: float) -> tuple[float, float]:
    """The point `distance` from `start` on the way to `goal`, at most half of the way."""
    dx, dy = goal[0] - start[0], goal[1] - start[1]
    length = (dx * dx + dy * dy) ** 0.5
    share = min(distance, length / 2) / length if length else 0.0
    return start[0] + share * dx, start[1] + share * dy
