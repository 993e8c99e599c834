"""The sections on the run itself: the graph of steps, and training."""

from smolmake.report.artifacts import (
    GraphData,
    MetricLine,
    ReportArtefact,
    metric_lines,
    of_kind,
    read_facts,
    read_json,
)
from smolmake.report.blocks import Block, Chart, ReportSection, Table, unique
from smolmake.report.charts.bars import throughput_chart
from smolmake.report.charts.graph import draw_graph, graph_headline, legend_of
from smolmake.report.charts.lines import Span, loss_chart, small_loss
from smolmake.report.sections.training_measures import events_table, noise_figure, source_loss_figure
from smolmake.report.text import compact, listed, percent, plural, round_to
from smolmake.report.token_axis import PlacedSegment


def graph_section(graph: GraphData, artefacts: list[ReportArtefact]) -> ReportSection | None:
    """The steps and their states."""
    if not graph.nodes:
        return None
    files = [
        a.file(name) for a in artefacts for name in ("manifest.json", "provenance.json") if (a.path / name).is_file()
    ]
    blocks: list[Block] = []
    if graph.pins:
        caption = "Results that stay in use although the code that made them has changed since, and why (config/pins)."
        pins = Table("tab-pins", caption, ["Step", "Id", "Reason"], [list(pin) for pin in graph.pins], [], names=3)
        blocks.append(pins)
    return ReportSection(
        "graph",
        "The graph",
        [f"{graph_headline(graph)}."],
        [
            Chart(
                "fig-graph",
                graph_caption(graph),
                [draw_graph(graph)],
                unique(files),
                legend_of(graph),
            ),
            *blocks,
        ],
    )


def graph_caption(graph: GraphData) -> str:
    """What the cards say: of steps to run, and of GPUs, only where there are any."""
    done, left = [n for n in graph.nodes if n.state == "done"], [n for n in graph.nodes if n.state != "done"]
    parts = ["how many are done and the time they took, summed"] if done else ["how many there are to run"]
    if any(n.gpu_hours for n in done):
        parts[0] += ", with the GPU-hours spent"
    costs = "GPU-hours and price" if graph.price is not None else "GPU-hours"
    to_run = [costs] if any(n.gpu_hours for n in left) else []
    waiting = any(graph.waits.get(n.stage.name, 0) >= 1 for n in graph.nodes)
    to_run += ["the stage's share of the longest chain as wall-clock time"] if waiting else []
    if to_run:
        parts.append(f"of those to run {listed(to_run)}")
    unknown = " Steps whose time nobody knows yet are not counted." if any(n.seconds is None for n in left) else ""
    return f"The steps of the run by stage: {'; '.join(parts)}.{unknown}"


def training_section(artefacts: list[ReportArtefact], segments: list[PlacedSegment]) -> ReportSection | None:
    """Loss, learning rate, throughput; and the loss of each post-training step."""
    blocks: list[Block] = []
    lead: list[str] = []
    if segments:
        blocks += [loss_figure(segments), *throughput_figure(segments)]
        blocks += [*source_loss_figure(segments, stage_spans(segments)), *noise_figure(segments, stage_spans(segments))]
        blocks += events_table(segments)
        last = segments[-1]
        lead.append(
            f"{plural(len(segments), 'segment')}, {compact(last.end)} tokens, "
            f"{plural(sum(len(s.lines) for s in segments), 'optimizer step')}. The loss went from "
            f"{round_to(mean_loss(segments[0].lines[:10]), 3)} (first ten steps) to "
            f"{round_to(mean_loss(last.lines[-10:]), 3)} (last ten)."
        )
    small, files = [], []
    for artefact in of_kind(artefacts, "posttraining", "alignment"):
        lines = metric_lines(artefact)
        if len(lines) > 1:
            small.append(small_loss(artefact.stage.title, [(m.step, m.loss) for m in lines]))
            files.append(artefact.file("metrics.jsonl"))
    if small:
        blocks.append(
            Chart(
                "fig-posttraining",
                "Loss of each post-training step over its optimizer steps, each as "
                "its own objective defines it: the curves are not comparable with each other.",
                small,
                files,
            )
        )
    return ReportSection("training", "Training", lead, blocks) if blocks else None


def mean_loss(lines: list[MetricLine]) -> float:
    return sum(m.loss for m in lines) / len(lines)


def stage_spans(segments: list[PlacedSegment]) -> list[Span]:
    """Where each stage lies on the token axis."""
    spans: list[Span] = []
    for stage in dict.fromkeys(s.stage for s in segments):
        end = max(s.end for s in segments if s.stage == stage)
        spans.append(Span(spans[-1].end if spans else 0.0, end, stage.title, stage.short))
    return spans


def loss_figure(segments: list[PlacedSegment]) -> Chart:
    """One line for each run, so that no line joins the end of one run with the start of the next."""
    runs = {s.offset: [t for t in segments if t.offset == s.offset] for s in segments}
    losses = [[p for s in run for p in s.curve(lambda m: m.loss)] for run in runs.values()]
    rates = [[p for s in run for p in s.curve(lambda m: m.learning_rate)] for run in runs.values()]
    spans = stage_spans(segments)
    desc = (
        f"Loss from {round_to(losses[0][0][1], 3)} to {round_to(losses[-1][-1][1], 3)} over "
        f"{compact(spans[-1].end)} tokens in {plural(len(spans), 'stage')}."
    )
    picture = loss_chart([x for x in losses if x], [x for x in rates if x], spans, desc)
    return Chart(
        "fig-loss",
        "Training loss (faint: each step, strong: mean of its neighbourhood) and learning rate over all "
        "pretraining stages and long-context extensions, on one token axis; dashed lines part the stages.",
        [picture],
        [s.artefact.file("metrics.jsonl") for s in segments],
    )


def throughput_figure(segments: list[PlacedSegment]) -> list[Block]:
    """Median and spread of tokens per second, by segment."""
    colours: dict[str, str] = {}
    bars, files = [], []
    for s in segments:
        rates = sorted(m.tokens_per_second for m in s.lines if m.tokens_per_second)
        if rates:
            colour = colours.setdefault(s.stage.name, f"c1{' t2' if len(colours) % 2 else ''}")
            low, median, high = (rates[round(q * (len(rates) - 1))] for q in (0.1, 0.5, 0.9))
            bars.append((s.label, median, low, high, colour))
            files.append(s.artefact.file("metrics.jsonl"))
    if not bars:
        return []
    fastest, slowest = max(bars, key=lambda b: b[1]), min(bars, key=lambda b: b[1])
    desc = f"Highest in {fastest[0]} ({compact(fastest[1])}), lowest in {slowest[0]} ({compact(slowest[1])})."
    ratio = percent(slowest[1] / fastest[1], 0)
    return [
        Chart(
            "fig-throughput",
            "Tokens a second in each segment (stage, steps): the median step, and as a line "
            f"the range of 80% of the steps. The slowest segment runs at {ratio} of the fastest.",
            [throughput_chart(bars, desc)],
            files,
        )
    ]


def trained_tokens(segments: list[PlacedSegment]) -> tuple[float, list[str]]:
    """Tokens of pretraining and long context, and the files that say so."""
    if not segments:
        return 0.0, []
    files = [s.artefact.file("metrics.jsonl") for s in segments]
    dropped = {s.artefact.file("manifest.json"): read_facts(s.artefact).get("dropped_tokens", 0) for s in segments}
    return segments[-1].end - sum(dropped.values()), files + [file for file, tokens in dropped.items() if tokens]


def wall_seconds(artefacts: list[ReportArtefact]) -> tuple[float, list[str]]:
    """Seconds of all steps summed, and the files that say so."""
    said = [
        (p["seconds"], a.file("provenance.json"))
        for a in artefacts
        if (p := read_json(a, "provenance.json")) and p.get("seconds")
    ]
    return sum(s for s, _ in said), [f for _, f in said]
