"""The sections on the run itself: the graph of steps, and training."""

from collections import Counter

from smolmake.report.artifacts import GraphData, MetricLine, ReportArtefact, of_kind
from smolmake.report.blocks import Block, Cell, Chart, Fact, ReportSection, Table
from smolmake.report.charts.bars import throughput_chart
from smolmake.report.charts.graph import draw_graph, graph_headline, legend_of
from smolmake.report.charts.lines import loss_chart, small_loss
from smolmake.report.sections.conversations import conversation_table
from smolmake.report.sections.training_measures import events_table, noise_figure, source_loss_figure
from smolmake.report.text import amount, compact, duration, listed, percent, plural, round_to
from smolmake.report.token_axis import PlacedSegment, stage_spans


def graph_section(graph: GraphData, artefacts: list[ReportArtefact]) -> ReportSection | None:
    """The steps and their states."""
    if not graph.nodes:
        return None
    files = [
        a.file(name) for a in artefacts for name in ("manifest.json", "provenance.json") if (a.path / name).is_file()
    ]
    blocks: list[Block] = [Chart("fig-graph", graph_caption(graph), [draw_graph(graph)], files, legend_of(graph))]
    if graph.pins:
        caption = "Results that stay in use although the code that made them has changed since, and why."
        rows: list[list[Cell]] = [[pin.kind, pin.name, pin.id, pin.reason] for pin in graph.pins]
        pinned = [file for p in graph.pins for file in (p.file, f"{p.kind}/{p.name}-{p.id}/manifest.json")]
        blocks.append(Table("tab-pins", caption, ["Kind", "Step", "Id", "Reason"], rows, pinned, names=4))
    blocks += versions_table(artefacts)
    return ReportSection("graph", "The graph", f"{graph_headline(graph)}.", blocks)


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
    uncertain = "".join(
        f" {amount(hours)} of the GPU-hours are uncertain: {told}." for told, hours in graph.uncertain.items()
    )
    return f"The steps of the run by stage: {'; '.join(parts)}.{unknown}{uncertain}"


def versions_table(artefacts: list[ReportArtefact]) -> list[Block]:
    """The versions of the libraries that computed the steps, and which stages another version than most."""
    used: dict[str, dict[str, Counter[str]]] = {}
    read = [(a.stage.title, p, a.file("provenance.json")) for a in artefacts if (p := a.read("provenance.json"))]
    for stage, provenance, _ in read:
        found = {"Python": provenance["python"]} if "python" in provenance else {}
        for library, version in (found | provenance.get("versions", {})).items():
            used.setdefault(library, {}).setdefault(version, Counter())[stage] += 1
    rows: list[list[Cell]] = []
    for library, versions in used.items():
        first, *others = sorted(versions, key=lambda version: -versions[version].total())
        told = [
            f"{version} ({plural(versions[version].total(), 'step')}: {listed([*versions[version]])})"
            for version in others
        ]
        rows.append([library, first, ", ".join(told) or "–"])
    caption = (
        "Versions of the libraries that computed most of the steps, and other ones with the stages that they computed."
    )
    columns, files = ["Library", "Version", "Other versions"], [file for *_, file in read]
    return [Table("tab-versions", caption, columns, rows, files, 3, "Versions of the libraries")] if rows else []


def training_section(artefacts: list[ReportArtefact], segments: list[PlacedSegment]) -> ReportSection | None:
    """Loss, learning rate, throughput; the loss of each post-training step, and the rows that it was trained on."""
    blocks: list[Block] = []
    lead = ""
    if segments:
        blocks = [loss_figure(segments), *throughput_figure(segments), *source_loss_figure(segments)]
        blocks += [*noise_figure(segments), *events_table(segments)]
        first, last = mean_loss(segments[0].lines[:10]), mean_loss(segments[-1].lines[-10:])
        lead = (
            f"{plural(len(segments), 'segment')}, {compact(tokens_of(segments))} tokens, "
            f"{plural(sum(len(s.lines) for s in segments), 'optimizer step')}. The loss went from "
            f"{round_to(first, 3)} (first ten steps) to {round_to(last, 3)} (last ten)."
        )
    if trained := [a for a in of_kind(artefacts, "posttraining", "alignment") if len(a.metrics) > 1]:
        caption = (
            "Loss of each post-training step over its optimizer steps, each as "
            "its own objective defines it: the curves are not comparable with each other."
        )
        charts = [small_loss(a.stage.title, [(m.step, m.loss) for m in a.metrics]) for a in trained]
        blocks.append(Chart("fig-posttraining", caption, charts, [a.file("metrics.jsonl") for a in trained]))
    blocks += conversation_table(artefacts)
    return ReportSection("training", "Training", lead, blocks) if blocks else None


def mean_loss(lines: list[MetricLine]) -> float:
    return sum(m.loss for m in lines) / len(lines)


def loss_figure(segments: list[PlacedSegment]) -> Chart:
    """One line for each run, so that no line joins the end of one run with the start of the next."""
    runs = [[s for s in segments if s.offset == offset] for offset in dict.fromkeys(s.offset for s in segments)]
    losses = [[p for s in run for p in s.curve(lambda m: m.loss)] for run in runs]
    rates = [[p for s in run for p in s.curve(lambda m: m.learning_rate)] for run in runs]
    spans = stage_spans(segments)
    desc = (
        f"Loss from {round_to(losses[0][0][1], 3)} to {round_to(losses[-1][-1][1], 3)} over "
        f"{compact(spans[-1].end)} tokens in {plural(len(spans), 'stage')}."
    )
    caption = (
        "Training loss (faint: each step, strong: mean of its neighbourhood) and learning rate over all "
        "pretraining stages and long-context extensions, on one token axis; dashed lines part the stages."
    )
    return Chart("fig-loss", caption, [loss_chart(losses, rates, spans, desc)], token_files(segments))


def throughput_figure(segments: list[PlacedSegment]) -> list[Block]:
    """Median and spread of tokens per second, by segment."""
    timed = [(s, sorted(m.tokens_per_second for m in s.lines if m.tokens_per_second)) for s in segments]
    timed = [(s, rates) for s, rates in timed if rates]
    if not timed:
        return []
    stages = list(dict.fromkeys(s.stage for s, _ in timed))
    bars = []
    for s, rates in timed:
        low, median, high = (rates[round(q * (len(rates) - 1))] for q in (0.1, 0.5, 0.9))
        bars.append((s.label, median, low, high, f"c1 t{1 + stages.index(s.stage) % 2}"))
    fastest, slowest = max(bars, key=lambda b: b[1]), min(bars, key=lambda b: b[1])
    desc = f"Highest in {fastest[0]} ({compact(fastest[1])}), lowest in {slowest[0]} ({compact(slowest[1])})."
    caption = (
        "Tokens a second in each segment (stage, steps): the median step, and as a line the range of 80% of the "
        f"steps. The slowest segment runs at {percent(slowest[1] / fastest[1], 0)} of the fastest."
    )
    return [Chart("fig-throughput", caption, [throughput_chart(bars, desc)], [s.file for s, _ in timed])]


def tokens_of(segments: list[PlacedSegment]) -> float:
    """Tokens trained on, without those of steps that were dropped after a spike."""
    return segments[-1].end - sum(float(s.artefact.facts.get("dropped_tokens", 0)) for s in segments)


def token_files(segments: list[PlacedSegment]) -> list[str]:
    """The files that say how many tokens were trained on."""
    dropped = [s.artefact.file("manifest.json") for s in segments if s.artefact.facts.get("dropped_tokens")]
    return [s.file for s in segments] + dropped


def trained_tokens(segments: list[PlacedSegment]) -> list[Fact]:
    """Tokens of pretraining and long context."""
    if not segments:
        return []
    tokens = compact(tokens_of(segments))
    return [Fact("Tokens trained", tokens, "pretraining and long context", token_files(segments))]


def time_of_all(artefacts: list[ReportArtefact]) -> list[Fact]:
    """The time of all steps, summed."""
    said = [(a.read("provenance.json"), a.file("provenance.json")) for a in artefacts]
    timed = [(provenance["seconds"], file) for provenance, file in said if provenance and provenance.get("seconds")]
    time = duration(sum(seconds for seconds, _ in timed))
    return [Fact("Time", time, "all steps summed", [file for _, file in timed])] if timed else []
