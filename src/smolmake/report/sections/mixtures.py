"""The section on mixtures: what each stage draws from."""

from collections import Counter
from typing import Any

from smolmake.report.artifacts import ReportArtefact, load, of_kind
from smolmake.report.blocks import Cell, Chart, ReportSection, Table, source_colours, two_lines
from smolmake.report.charts.bars import BarPart, stacked_bars
from smolmake.report.text import compact, listed, percent, plural, round_to, whole

Mixture = dict[str, Any]


def read_mixtures(artefacts: list[ReportArtefact]) -> list[tuple[Mixture, str]]:
    """What each stage draws, in the form of mixture.json, and the file that says so.

    epochs.json says it of all stages together; without one, each mixture.json that counts its sequences does.
    """
    for _, counted, file in load(artefacts, "epochs", "epochs.json"):
        return [(stage, file) for stage in counted["stages"]]
    return [(m, file) for _, m, file in load(artefacts, "mixture", "mixture.json") if "sequences" in m]


def mixture_section(artefacts: list[ReportArtefact]) -> ReportSection | None:
    """What each stage draws from, and how often each source is repeated."""
    read = read_mixtures(artefacts)
    if not read:
        return None
    mixtures, files = [m for m, _ in read], [file for _, file in read]
    domains = {name: entry["domain"] for m in mixtures for name, entry in m["sources"].items()}
    domains = dict(sorted(domains.items(), key=lambda item: list(domains.values()).index(item[1])))
    colours, stages = source_colours(domains), [m["stage"] for m in mixtures]
    legend = [(f"{k} {name} ({domain})", colours[name]) for k, (name, domain) in enumerate(domains.items(), 1)]
    bars = []
    for m in mixtures:
        parts = []
        for number, (name, domain) in enumerate(domains.items(), 1):
            if name in m["sources"]:
                share = m["sources"][name]["share"]
                told = f"{m['stage']}: {name} ({domain}) {percent(share)}"
                parts.append(BarPart(number, name, share, colours[name], told))
        bars.append((m["stage"], f"{compact(m['sequences'] * m['sequence_length'])} tokens", parts))
    rows: list[list[Cell]] = [
        [name, domain, *(epochs(m, m["sources"][name]) if name in m["sources"] else "–" for m in mixtures)]
        for name, domain in domains.items()
    ]
    counts = [two_lines(whole(m["sequences"]), f"of {whole(m['sequence_length'])} tokens") for m in mixtures]
    rows.append(["sequences", "", *counts])
    if any("padding" in e for m in mixtures for e in m["sources"].values()):
        rows.append(["padding", "", *(padding(m) for m in mixtures)])
    shown = (
        "Share of the sequences of each stage by source; sources of one domain share a hue. Where there is no "
        "room for a source's name, its number in the legend stands for it. "
        "At the end of each bar: tokens of the stage."
    )
    read_of = (
        "Share of each source, and epochs of it read by the end of the stage, against the most "
        "that are allowed; a stage to which no cap applies has none."
    )
    drawn = stacked_bars("Mixtures by stage", bars, f"One bar for each of {listed(stages)}.")
    chart = Chart("fig-mixtures", shown, [drawn], files, legend)
    table = Table("tab-epochs", read_of, ["Source", "Domain", *stages], rows, files, names=2)
    lead = f"{plural(len(mixtures), 'mixture')}, for {listed(stages)}." + nearest_cap(mixtures)
    return ReportSection("mixtures", "Mixtures", lead, [chart, table, *dropped_table(artefacts)])


def epochs(mixture: Mixture, entry: dict[str, Any]) -> Cell:
    """The share of a source, and the epochs read of it, marked where they are above its cap."""
    share, read = percent(entry["share"]), f"{entry['epochs_after']:.2f}" if entry["epochs_after"] >= 5e-3 else "<0.01"
    if not mixture.get("capped", True):
        return two_lines(share, f"{read} epochs")
    over = entry["epochs_after"] > entry["max_epochs"] + 5e-3
    return two_lines(share, f"{read} of {round_to(entry['max_epochs'], 3)} epochs", "worse" if over else "")


def nearest_cap(mixtures: list[Mixture]) -> str:
    """The source that is closest to its repeat cap, in a sentence."""
    capped = [m for m in mixtures if m.get("capped", True)]
    reached = [
        (e["epochs_after"] / (e["max_epochs"] or 1), s, m["stage"]) for m in capped for s, e in m["sources"].items()
    ]
    if not reached:
        return ""
    share, source, stage = max(reached)
    reached_of = f"{percent(share, 0) if share >= 5e-3 else 'less than 1%'} of the epochs allowed after {stage}"
    return f" The source closest to its repeat cap is {source}, at {reached_of}."


def padding(mixture: Mixture) -> str:
    """The share of a stage's positions that are padding, where its documents are packed."""
    shares = [e["share"] * e["padding"] for e in mixture["sources"].values() if "padding" in e]
    return percent(sum(shares), 2) if shares else "–"


def dropped_table(artefacts: list[ReportArtefact]) -> list[Table]:
    """Sequences that were drawn and not trained on, because training went back before a spike of the loss."""
    columns: dict[str, Counter[str]] = {}
    segments = [a for a in of_kind(artefacts, "segment") if a.facts.get("dropped_steps")]
    for artefact in segments:
        columns.setdefault(artefact.stage.title, Counter()).update(artefact.facts["dropped_by_source"])
    names = sorted({name for column in columns.values() for name in column})
    rows: list[list[Cell]] = [[name, *(whole(column[name]) for column in columns.values())] for name in names]
    caption = (
        "Sequences that the mixtures above count and that were not trained on, "
        f"{compact(sum(a.facts['dropped_tokens'] for a in segments))} tokens in all: "
        "their steps were dropped after a spike of the loss."
    )
    files = [a.file("manifest.json") for a in segments]
    return [Table("tab-dropped", caption, ["Source", *columns], rows, files)] if rows else []
