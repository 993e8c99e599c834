"""The sections on what the model was trained on: sources and tokenizer."""

from typing import Any

from smolmake.recipe.schema import Recipe
from smolmake.report.artifacts import ReportArtefact, of_kind, read_facts, read_json
from smolmake.report.blocks import Block, Cell, Chart, Details, Item, ReportSection, Table, two_lines
from smolmake.report.charts.bars import heat_map
from smolmake.report.text import compact, percent, plural, whole

SOURCES_SHOWN, ROWS_OPEN = 4, 20  # of a task; of the table of tasks
Loaded = list[tuple[ReportArtefact, dict[str, Any]]]


def load(artefacts: list[ReportArtefact], kind: str, file: str) -> Loaded:
    """The artefacts of a kind that have the file, with its content."""
    return [(a, raw) for a in of_kind(artefacts, kind) if (raw := read_json(a, file)) is not None]


def data_section(artefacts: list[ReportArtefact], recipe: Recipe) -> ReportSection | None:
    """Where the text came from, what was dropped and why."""
    cleaned = load(artefacts, "documents", "cleaning.json")
    if not cleaned:
        return None
    shards = {a.name: a for a in of_kind(artefacts, "shards")}
    tokens = {name: read_facts(a).get("tokens") for name, a in shards.items()}
    reasons = list(dict.fromkeys(r for _, c in cleaned for r in c["dropped"]))
    rows: list[list[Cell]] = []
    for a, c in cleaned:
        source, count = recipe.sources[a.name], tokens.get(a.name)
        rows.append(
            [
                a.name,
                two_lines(source.domain, source.language),
                source.licence,
                compact(count) if count else "–",
                whole(c["read"]),
                two_lines(whole(c["kept"]), percent(c["kept"] / c["read"]) if c["read"] else "–"),
                whole(c.get("heldout", 0)),
                *(whole(c["dropped"].get(r, 0)) for r in reasons),
            ]
        )
    read, kept, heldout = (sum(c.get(key, 0) for _, c in cleaned) for key in ("read", "kept", "heldout"))
    dropped = sum(sum(c["dropped"].values()) for _, c in cleaned)
    total = sum(t or 0 for t in tokens.values())
    rows.append(
        [
            "all",
            "",
            "",
            compact(total) if total else "–",
            whole(read),
            two_lines(whole(kept), percent(kept / read) if read else "–"),
            whole(heldout),
            *(whole(sum(c["dropped"].get(r, 0) for _, c in cleaned)) for r in reasons),
        ]
    )
    files = [a.file("cleaning.json") for a, _ in cleaned]
    manifests = [a.file("manifest.json") for a in shards.values() if (a.path / "manifest.json").is_file()]
    columns = [
        "Source",
        "Domain",
        "Licence",
        "Tokens",
        "Read",
        "Kept",
        "Held out",
        *(r.replace("_", " ").capitalize() for r in reasons),
    ]
    blocks: list[Block] = [
        Table(
            "tab-sources",
            "Tokens written for each source, and its documents: those read are kept for training, held out for "
            "evaluation, or dropped, counted under the first reason that dropped them. "
            "Domains, languages and licences are those that the recipe (at the end of this page) declares.",
            columns,
            rows,
            files + manifests,
            names=3,
        )
    ]
    blocks += overlap_table(cleaned, load(artefacts, "overlap", "overlap.json"))
    examples = [
        (
            f"{a.name}: {plural(sum(c['dropped'].values()), 'document')} dropped",
            [Item(e["reason"].replace("_", " "), e["text"]) for e in c["examples"][:6]],
        )
        for a, c in cleaned
        if c.get("examples")
    ]
    if examples:
        blocks.append(Details("txt-dropped", "Some of what was dropped, by source.", examples, files))
    lead = (
        f"{plural(len(cleaned), 'source')} gave {plural(read, 'document')}: {whole(kept)} "
        f"({percent(kept / read if read else 0)}) are kept for training"
        + (f" ({compact(total)} tokens)" if total else "")
        + f", {whole(heldout)} are held out for evaluation and {whole(dropped)} were dropped."
    )
    return ReportSection("data", "Data", [lead], blocks)


def overlap_table(cleaned: Loaded, measured: Loaded) -> list[Block]:
    """Which evaluation items were found in which source, and dropped there or only counted."""
    counted = [*cleaned, *measured]
    tasks = list(dict.fromkeys(task for _, c in counted for task in c.get("overlap", {})))
    if not tasks:
        return []
    rows: list[list[Cell]] = []
    for task in tasks:
        entries = {a.name: c["overlap"][task] for a, c in counted if task in c.get("overlap", {})}
        counts = sorted(((e["items_found"], name) for name, e in entries.items() if e["items_found"]), reverse=True)
        where = [f"{whole(count)} in {name}" for count, name in counts[:SOURCES_SHOWN]]
        where += [f"{len(counts) - SOURCES_SHOWN} sources more"] if len(counts) > SOURCES_SHOWN else []
        rows.append(
            [
                task,
                ", ".join(where) or "none",
                whole(max(e["items"] for e in entries.values())),
                whole(sum(e.get("documents_dropped", 0) for e in entries.values())),
                whole(sum(e.get("documents_found", 0) for e in entries.values())),
            ]
        )
    return [
        Table(
            "tab-overlap",
            "Decontamination: evaluation items found, in the sources that held most of them, and the documents that "
            "were dropped for it, or kept because the recipe only measures it, in all.",
            ["Task", "Items found", "Items", "Dropped", "Kept"],
            rows,
            [*(a.file("cleaning.json") for a, _ in cleaned), *(a.file("overlap.json") for a, _ in measured)],
            names=2,
            folded="All tasks that were looked for" if len(rows) > ROWS_OPEN else "",
        )
    ]


def tokenizer_section(artefacts: list[ReportArtefact]) -> ReportSection | None:
    """How well each tokenizer fits each source."""
    analyses = load(artefacts, "tokenizer_comparison", "analysis.json")
    if not analyses or not analyses[-1][1]["rows"]:
        return None
    artefact, analysis = analyses[-1]
    rows, chosen = analysis["rows"], analysis["chosen"]
    cells = {(r["tokenizer"], r["source"]): r for r in rows}
    names = list(dict.fromkeys(r["tokenizer"] for r in rows))
    sources = {r["source"]: f"{r['language']} · {r['domain']}" for r in rows}
    labels = [f"{n} ✓" if n == chosen else n for n in names]

    def grid(metric: str) -> list[list[float | None]]:
        return [[cells[n, s][metric] if (n, s) in cells else None for s in sources] for n in names]

    file = [artefact.file("analysis.json")]
    worst = max((r for r in rows if r["tokenizer"] == chosen), key=lambda r: r["fertility"], default=rows[0])
    picture = heat_map(
        "Fit of the tokenizers",
        list(sources.items()),
        [
            ("Tokens a word (fertility)", labels, grid("fertility")),
            ("Share of words cut in pieces (continued words)", labels, grid("continued_words")),
        ],
        2,
        f"{chosen} needs the most tokens a word on {worst['source']}: {worst['fertility']:.2f}.",
    )
    table: list[list[Cell]] = [
        [
            r["tokenizer"] + (" ✓" if r["tokenizer"] == chosen else ""),
            r["source"],
            f"{r['language']} · {r['domain']}",
            whole(r["documents"]),
            whole(r["words"]),
            whole(r["tokens"]),
            f"{r['fertility']:.3f}",
            percent(r["continued_words"]),
            f"{r['bytes_per_token']:.2f}",
            whole(r["digits_per_token"]) if "digits_per_token" in r else "–",
        ]
        for r in rows
    ]
    return ReportSection(
        "tokenizer",
        "Tokenizer",
        [
            f"{plural(len(names), 'tokenizer')} compared on {plural(len(sources), 'source')}; "
            f"{chosen} was chosen. "
            f"It needs the most tokens a word on {worst['source']} ({worst['fertility']:.2f})."
        ],
        [
            Chart(
                "fig-tokenizer",
                "Tokens a word, and share of words that are cut into several tokens, by tokenizer and "
                "source. Each block has its own scale; a stronger colour is more, and less is better. "
                "✓ marks the tokenizer chosen.",
                [picture],
                file,
            ),
            Table(
                "tab-tokenizer",
                "The same, with bytes a token and the most digits in one token. Words of Chinese, Japanese, Thai, Lao, "
                "Khmer and Burmese are those that ICU's dictionaries find.",
                [
                    "Tokenizer",
                    "Source",
                    "Language · domain",
                    "Documents",
                    "Words",
                    "Tokens",
                    "Fertility",
                    "Continued words",
                    "Bytes a token",
                    "Digits a token",
                ],
                table,
                file,
                names=3,
                folded="All tokenizer measurements",
            ),
        ],
    )
