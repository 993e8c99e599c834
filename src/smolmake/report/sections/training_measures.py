"""What the training section shows besides loss and speed: loss by source, the gradient noise scale, events."""

from collections import Counter
from itertools import accumulate

from smolmake.monitoring.events import read_events
from smolmake.report.blocks import COLOURS, Block, Cell, Chart, Table
from smolmake.report.charts.lines import Panel, logarithmic, smooth, token_chart
from smolmake.report.charts.svg import Point, value_axis
from smolmake.report.text import compact, round_to
from smolmake.report.token_axis import PlacedSegment, stage_spans

WORDS = {
    "skipped": "step skipped (gradient)",
    "dropped": "roll-back, steps dropped",
    "resumed": "resumed",
    "stopped": "stopped",
    "throughput_drop": "throughput",
    "saving": "recovery checkpoint not written",
    "upload": "upload failed",
    "fetched": "checkpoint fetched",
    "tracker": "tracker left",
}


def source_loss_figure(segments: list[PlacedSegment]) -> list[Block]:
    """Loss of the global batch by source, where it was measured."""
    measured: dict[str, list[Point]] = {}
    for s in segments:
        for m in s.lines:
            for name, loss in (m.source_loss or {}).items():
                measured.setdefault(name, []).append((s.offset + m.tokens, loss))
    lines = {name: smooth(points, 20) for name, points in sorted(measured.items()) if len(points) > 1}
    if not lines:
        return []
    colours = {name: f"c{k % COLOURS + 1} t{k // COLOURS + 1}" for k, name in enumerate(lines)}
    y = value_axis([loss for points in lines.values() for _, loss in points], 5)
    panel = Panel("loss, nats a token", 200, y, [(points, f"{colours[name]} strong") for name, points in lines.items()])
    ends = ", ".join(f"{name} {round_to(points[-1][1], 3)}" for name, points in lines.items())
    caption = "Loss of the batch by source, before the update (mean of its neighbourhood)."
    drawn = token_chart("Loss by source", f"At the end: {ends}.", [panel], stage_spans(segments))
    files = [s.file for s in segments if any(m.source_loss for m in s.lines)]
    return [Chart("fig-source-loss", caption, [drawn], files, list(colours.items()))]


def noise_figure(segments: list[PlacedSegment]) -> list[Block]:
    """The gradient noise scale beside the batch in use, in sequences."""
    batch = [p for s in segments for p in s.curve(lambda m: m.sequences)]
    measured = [m for s in segments for m in s.lines if m.sequences is not None]
    squares, variances = (
        average([m.gradient_square for m in measured]),
        average([m.gradient_variance for m in measured]),
    )
    scale = [(x, v / g) for (x, _), g, v in zip(batch, squares, variances, strict=True) if g > 0 and v > 0]
    if len(scale) < 2:
        return []
    panel = logarithmic("sequences", [(scale, "c1 strong"), (batch, "c2 strong")])
    desc = f"At the end {compact(scale[-1][1])} sequences, with batches of {compact(batch[-1][1])}."
    caption = (
        "Gradient noise scale tr(Σ) / |G|² (McCandlish et al. 2018; both averaged before their ratio is taken) and "
        "the batch in use, in sequences. A batch far below it loses little by growing; far above it wastes tokens."
    )
    drawn = token_chart("Gradient noise scale", desc, [panel], stage_spans(segments))
    files = [s.file for s in segments if any(m.sequences is not None for m in s.lines)]
    return [Chart("fig-noise-scale", caption, [drawn], files, [("noise scale", "c1"), ("batch", "c2")])]


def average(values: list[float]) -> list[float]:
    """Averages that weigh the past less and less, over about a tenth of the values and at least five of them.

    As in the paper, of both estimates before their ratio is taken: a ratio of single measures is biased.
    """
    weight = 2 / (1 + max(5.0, len(values) / 10))
    return list(accumulate(values, lambda before, value: before + weight * (value - before)))


def events_table(segments: list[PlacedSegment]) -> list[Block]:
    """What happened to each segment, a line a kind, in the order of their last times."""
    timed: list[tuple[str, list[Cell]]] = []
    read = {s.artefact.file("events.jsonl"): (s, read_events(s.artefact.path)) for s in segments}
    for s, events in read.values():
        counts = Counter(event["kind"] for event in events)
        for kind, last in {event["kind"]: event for event in events}.items():
            row = [s.label, WORDS.get(kind, kind), last["what"], str(counts[kind]), str(last["step"])]
            timed.append((last["time"], row))
    rows = [row for _, row in sorted(timed, key=lambda entry: entry[0])]
    caption = "Events of the segments: how often each kind, and the last one, in the order of time."
    files = [file for file, (_, events) in read.items() if events]
    columns = ["Segment", "Event", "The last one", "Times", "At step"]
    return [Table("tab-events", caption, columns, rows, files, 3)] if rows else []
