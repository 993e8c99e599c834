"""The section on mixtures: what each stage draws from."""

from typing import Any

from smolmake.report.artifacts import ReportArtefact, of_kind, read_facts, read_mixtures
from smolmake.report.blocks import Cell, Chart, ReportSection, Table, source_colours, two_lines, unique
from smolmake.report.charts.bars import BarPart, stacked_bars
from smolmake.report.text import compact, listed, percent, plural, round_to, whole


def mixture_section(artefacts: list[ReportArtefact]) -> ReportSection | None:
    """What each stage draws from, and how often each source is repeated."""
    mixtures = read_mixtures(artefacts)
    if not mixtures:
        return None
    domains = {name: entry["domain"] for m, _ in mixtures for name, entry in m["sources"].items()}
    domains = dict(sorted(domains.items(), key=lambda item: list(domains.values()).index(item[1])))
    colours = source_colours(domains)
    bars, cells, nearest = [], [], (0.0, "", "")
    for m, _ in mixtures:
        stage, capped = m["stage"], m.get("capped", True)
        parts = [
            BarPart(
                number,
                name,
                m["sources"][name]["share"],
                colours[name],
                f"{stage}: {name} ({domain}) {percent(m['sources'][name]['share'])}",
            )
            for number, (name, domain) in enumerate(domains.items(), 1)
            if name in m["sources"]
        ]
        tokens = m["sequences"] * m["sequence_length"]
        bars.append((stage, compact(tokens), parts))
        column = {}
        for name, e in m["sources"].items():
            column[name] = two_lines(
                percent(e["share"]),
                f"{e['epochs_after']:.2f}" + (f" of {round_to(e['max_epochs'], 3)}" if capped else ""),
                "worse" if capped and e["epochs_after"] > e["max_epochs"] + 5e-3 else "",
            )
            if capped:
                nearest = max(nearest, (e["epochs_after"] / (e["max_epochs"] or 1), name, stage))
        cells.append(column)
    rows: list[list[Cell]] = [
        [name, domain, *(column.get(name, "–") for column in cells)] for name, domain in domains.items()
    ]
    rows.append(
        [
            "sequences",
            "",
            *(two_lines(whole(m["sequences"]), f"of {whole(m['sequence_length'])} tokens") for m, _ in mixtures),
        ]
    )
    if any("padding" in e for m, _ in mixtures for e in m["sources"].values()):
        rows.append(["padding", "", *(padding(m) for m, _ in mixtures)])
    files = unique([file for _, file in mixtures])
    dropped = dropped_table(artefacts)
    stages = [m["stage"] for m, _ in mixtures]
    return ReportSection(
        "mixtures",
        "Mixtures",
        [
            f"{plural(len(mixtures), 'mixture')}, for {listed(stages)}. The source closest to its repeat cap "
            f"is {nearest[1]}, at {percent(nearest[0], 0)} of the epochs allowed after {nearest[2]}."
        ],
        [
            Chart(
                "fig-mixtures",
                "Share of the sequences of each stage by source; sources of one domain share a hue. Where there is no "
                "room for a source's name, its number in the legend stands for it. "
                "At the end of each bar: tokens of the stage.",
                [stacked_bars("Mixtures by stage", bars, f"One bar for each of {listed(stages)}.")],
                files,
                [(f"{k} {name} ({domain})", colours[name]) for k, (name, domain) in enumerate(domains.items(), 1)],
            ),
            Table(
                "tab-epochs",
                "Share of each source, and epochs of it read by the end of the stage, against the most "
                "that are allowed; a stage to which no cap applies has none.",
                ["Source", "Domain", *stages],
                rows,
                files,
                names=2,
            ),
            *dropped,
        ],
    )


def padding(mixture: dict[str, Any]) -> str:
    """The share of a stage's positions that are padding, where its documents are packed."""
    shares = [e["share"] * e["padding"] for e in mixture["sources"].values() if "padding" in e]
    return percent(sum(shares), 2) if shares else "–"


def dropped_table(artefacts: list[ReportArtefact]) -> list[Table]:
    """Sequences that were drawn and not trained on, because training went back before a spike of the loss."""
    columns: dict[str, dict[str, int]] = {}
    files, tokens = [], 0
    for artefact in of_kind(artefacts, "segment"):
        facts = read_facts(artefact)
        if facts.get("dropped_steps"):
            column = columns.setdefault(artefact.stage.title, {})
            for name, count in facts["dropped_by_source"].items():
                column[name] = column.get(name, 0) + count
            tokens += facts["dropped_tokens"]
            files.append(artefact.file("manifest.json"))
    if not columns:
        return []
    names = sorted({name for column in columns.values() for name in column})
    rows: list[list[Cell]] = [[name, *(whole(column.get(name, 0)) for column in columns.values())] for name in names]
    caption = (
        f"Sequences that the mixtures above count and that were not trained on, {compact(tokens)} tokens in all: "
        "their steps were dropped after a spike of the loss."
    )
    return [Table("tab-dropped", caption, ["Source", *columns], rows, files)]
