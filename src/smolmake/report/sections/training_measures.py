"""What the training section shows besides loss and speed: loss by source, the gradient noise scale, events."""

from typing import Any

from smolmake.monitoring.events import read_events
from smolmake.report.blocks import COLOURS, Block, Cell, Chart, Table
from smolmake.report.charts.lines import Span, measure_chart, smooth
from smolmake.report.charts.svg import Point
from smolmake.report.text import compact, round_to
from smolmake.report.token_axis import PlacedSegment

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


def source_loss_figure(segments: list[PlacedSegment], spans: list[Span]) -> list[Block]:
    """Loss of the global batch by source, where it was measured."""
    points: dict[str, list[Point]] = {}
    for segment in segments:
        for m in segment.lines:
            for name, loss in m.source_loss.items():
                points.setdefault(name, []).append((segment.offset + m.tokens, loss))
    points = {name: line for name, line in sorted(points.items()) if len(line) > 1}
    if not points:
        return []
    colours = {
        name: f"c{k % COLOURS + 1}" + (f" t{k // COLOURS + 1}" if k >= COLOURS else "") for k, name in enumerate(points)
    }
    lines = []
    for name, line in points.items():
        losses = smooth([y for _, y in line], len(line) / 20)
        lines.append((list(zip([x for x, _ in line], losses, strict=True)), colours[name]))
    ends = ", ".join(f"{name} {round_to(line[-1][1], 3)}" for name, (line, _) in zip(points, lines, strict=True))
    return [
        Chart(
            "fig-source-loss",
            "Loss of the batch by source, before the update (mean of its neighbourhood).",
            [measure_chart("Loss by source", lines, spans, f"At the end: {ends}.", log=False)],
            [s.artefact.file("metrics.jsonl") for s in segments if any(m.source_loss for m in s.lines)],
            list(colours.items()),
        )
    ]


def noise_figure(segments: list[PlacedSegment], spans: list[Span]) -> list[Block]:
    """The gradient noise scale beside the batch in use, in sequences."""
    measured = [(s.offset + m.tokens, m.noise) for s in segments for m in s.lines if m.noise is not None]
    squares = average([noise[0] for _, noise in measured])
    variances = average([noise[1] for _, noise in measured])
    scale = [(x, v / g) for (x, _), g, v in zip(measured, squares, variances, strict=True) if g > 0 and v > 0]
    if len(scale) < 2:
        return []
    batch = [(x, noise[2]) for x, noise in measured]
    return [
        Chart(
            "fig-noise-scale",
            "Gradient noise scale tr(Σ) / |G|² (McCandlish et al. 2018; both averaged before their ratio is taken) and "
            "the batch in use, in sequences. A batch far below it loses little by growing; far above it wastes tokens.",
            [
                measure_chart(
                    "Gradient noise scale",
                    [(scale, "c1"), (batch, "c2")],
                    spans,
                    f"At the end {compact(scale[-1][1])} sequences, with batches of {compact(batch[-1][1])}.",
                    log=True,
                )
            ],
            [s.artefact.file("metrics.jsonl") for s in segments if any(m.noise for m in s.lines)],
            [("noise scale", "c1"), ("batch", "c2")],
        )
    ]


def average(values: list[float]) -> list[float]:
    """Averages that weigh the past less and less, over about a tenth of the values and at least five of them.

    As in the paper, of both estimates before their ratio is taken: a ratio of single measures is biased.
    """
    weight = 2 / (1 + max(5.0, len(values) / 10))
    result: list[float] = []
    for value in values:
        result.append(value if not result else result[-1] + weight * (value - result[-1]))
    return result


def events_table(segments: list[PlacedSegment]) -> list[Block]:
    """What happened to each segment, a line a kind, in the order of their last times."""
    timed: list[tuple[str, list[Cell]]] = []
    files = []
    for s in segments:
        kinds: dict[str, list[dict[str, Any]]] = {}
        for event in read_events(s.artefact.path):
            kinds.setdefault(event["kind"], []).append(event)
        for kind, events in kinds.items():
            last = events[-1]
            row: list[Cell] = [s.label, WORDS.get(kind, kind), last["what"], str(len(events)), str(last["step"])]
            timed.append((last["time"], row))
        if kinds:
            files.append(s.artefact.file("events.jsonl"))
    if not timed:
        return []
    rows = [row for _, row in sorted(timed, key=lambda entry: entry[0])]
    caption = "Events of the segments: how often each kind, and the last one, in the order of time."
    return [Table("tab-events", caption, ["Segment", "Event", "The last one", "Times", "At step"], rows, files, 3)]
