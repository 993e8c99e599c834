"""The section on mixtures: what each stage draws from."""

from smolmake.report.bars import Part, stacked_bars
from smolmake.report.blocks import Cell, Chart, Section, Table, source_colours, two_lines, unique
from smolmake.report.inputs import ReportArtefact, read_mixtures, stage_name
from smolmake.report.text import compact, listed, percent, plural, round_to, whole


def mixture_section(artefacts: list[ReportArtefact]) -> Section | None:
    """What each stage draws from, and how often each source is repeated."""
    mixtures = read_mixtures(artefacts)
    if not mixtures:
        return None
    domains = {name: entry["domain"] for m, _ in mixtures for name, entry in m["sources"].items()}
    domains = dict(sorted(domains.items(), key=lambda item: list(domains.values()).index(item[1])))
    colours = source_colours(domains)
    bars, cells, nearest = [], [], (0.0, "", "")
    for m, _ in mixtures:
        stage, capped = stage_name(m["stage"]), m.get("capped", True)
        parts = [
            Part(
                name,
                m["sources"][name]["share"],
                colours[name],
                f"{stage}: {name} ({domain}) {percent(m['sources'][name]['share'])}",
            )
            for name, domain in domains.items()
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
    files = unique([file for _, file in mixtures])
    stages = [stage_name(m["stage"]) for m, _ in mixtures]
    return Section(
        "mixtures",
        "Mixtures",
        [
            f"{plural(len(mixtures), 'mixture')}, for {listed(stages)}. The source closest to its repeat cap "
            f"is {nearest[1]}, at {percent(nearest[0], 0)} of the epochs allowed after {nearest[2]}."
        ],
        [
            Chart(
                "fig-mixtures",
                "Share of the sequences of each stage by source; sources of one domain share a hue. "
                "At the end of each bar: tokens of the stage.",
                [stacked_bars("Mixtures by stage", bars, f"One bar for each of {listed(stages)}.")],
                files,
                [(f"{name} ({domain})", colours[name]) for name, domain in domains.items()],
            ),
            Table(
                "tab-epochs",
                "Share of each source, and epochs of it read by the end of the stage, against the most "
                "that are allowed; a stage to which no cap applies has none.",
                ["Source", "Domain", *(s.capitalize() for s in stages)],
                rows,
                files,
                names=2,
            ),
        ],
    )
