"""The sections on what the model was trained on: sources and tokenizer."""

from typing import Any

from smolmake.recipe.schema import Recipe
from smolmake.report.artifacts import Overlap, ReportArtefact, load, of_kind, read_overlap
from smolmake.report.blocks import Block, Cell, Details, Item, ReportSection, Table, shaded, two_lines
from smolmake.report.text import compact, percent, plural, whole

MEASURES = {"fertility": "tokens a word", "continued_words": "share of words cut"}
SOURCES_SHOWN, ROWS_OPEN = 4, 20  # of a task or an encoder; of the table of tasks


def data_section(artefacts: list[ReportArtefact], recipe: Recipe) -> ReportSection | None:
    """Where the text came from, what was dropped and why."""
    cleaned = load(artefacts, "documents", "cleaning.json")
    if not cleaned:
        return None
    files, shards = [file for *_, file in cleaned], of_kind(artefacts, "shards")
    tokens = {a.name: a.facts.get("tokens", 0) for a in shards}
    reasons = list(dict.fromkeys(r for _, c, _ in cleaned for r in c["dropped"]))
    total: dict[str, Any] = {key: sum(c.get(key, 0) for _, c, _ in cleaned) for key in ("read", "kept", "heldout")}
    total["dropped"] = {r: sum(c["dropped"].get(r, 0) for _, c, _ in cleaned) for r in reasons}
    share = percent(total["kept"] / total["read"] if total["read"] else 0)

    def row(name: str, about: list[Cell], count: int, c: dict[str, Any]) -> list[Cell]:
        kept = two_lines(whole(c["kept"]), percent(c["kept"] / c["read"]) if c["read"] else "–")
        counts = [compact(count) if count else "–", whole(c["read"]), kept, whole(c.get("heldout", 0))]
        return [name, *about, *counts, *(whole(c["dropped"].get(r, 0)) for r in reasons)]

    rows = []
    for a, c, _ in cleaned:
        source = recipe.sources[a.name]
        about: list[Cell] = [two_lines(source.domain, source.language), source.licence]
        rows.append(row(a.name, about, tokens.get(a.name, 0), c))
    rows.append(row("all", ["", ""], sum(tokens.values()), total))
    columns = ["Source", "Domain", "Licence", "Tokens", "Documents read", "Kept", "Held out"]
    columns += [reason.replace("_", " ").capitalize() for reason in reasons]
    caption = (
        "Tokens written for each source, and its documents: those read are kept for training, held out for "
        "evaluation, or dropped, counted in the column of the first reason that dropped them. "
        "Domains, languages and licences are those that the recipe (at the end of this page) declares."
    )
    sources = Table("tab-sources", caption, columns, rows, files + [a.file("manifest.json") for a in shards], names=3)
    blocks: list[Block] = [sources, *encoders_table(shards), *overlap_table(read_overlap(artefacts))]
    examples = []
    for a, c, _ in cleaned:
        if c.get("examples"):
            items = [Item(e["reason"].replace("_", " "), e["text"]) for e in c["examples"][:6]]
            examples.append((f"{a.name}: {plural(sum(c['dropped'].values()), 'document')} dropped", items))
    if examples:
        blocks.append(Details("txt-dropped", "Some of what was dropped, by source.", examples, files))
    written = f" ({compact(sum(tokens.values()))} tokens)" if any(tokens.values()) else ""
    lead = (
        f"{plural(len(cleaned), 'source')} gave {plural(total['read'], 'document')}: {whole(total['kept'])} ({share}) "
        f"are kept for training{written}, {whole(total['heldout'])} are held out for evaluation and "
        f"{whole(sum(total['dropped'].values()))} were dropped."
    )
    return ReportSection("data", "Data", lead, blocks)


def encoders_table(shards: list[ReportArtefact]) -> list[Block]:
    """Which library encoded which sources, and why where it was the slow one."""
    sources: dict[tuple[str, str], list[str]] = {}
    files = []
    for artefact in shards:
        used = (artefact.read("provenance.json") or {}).get("encoders", [])
        files += [artefact.file("provenance.json")] if used else []
        for each in used:
            sources.setdefault((each["encoder"], each["slow_because"]), []).append(artefact.name)
    rows: list[list[Cell]] = [
        [encoder, f"{plural(len(names), 'source')}: {_some(names)}", why or "–"]
        for (encoder, why), names in sources.items()
    ]
    caption = "The libraries that encoded the sources; where it was the slow one, which gives the same tokens, why."
    return [Table("tab-encoders", caption, ["Encoder", "Sources", "Slow because"], rows, files, 3)] if rows else []


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SOURCES_SHOWN} more" if len(names) > SOURCES_SHOWN else ""
    return ", ".join(names[:SOURCES_SHOWN]) + more


def overlap_table(overlap: Overlap) -> list[Block]:
    """Which evaluation items were found in which source, and dropped there or only counted."""
    rows: list[list[Cell]] = []
    for task, entries in overlap.tasks.items():
        counts = sorted(((e["items_found"], source) for source, e in entries if e["items_found"]), reverse=True)
        where = [f"{whole(count)} in {name}" for count, name in counts[:SOURCES_SHOWN]]
        where += [f"{len(counts) - SOURCES_SHOWN} sources more"] if len(counts) > SOURCES_SHOWN else []
        dropped, kept = (sum(e.get(f"documents_{key}", 0) for _, e in entries) for key in ("dropped", "found"))
        rows.append([task, ", ".join(where) or "none", whole(overlap.found(task)[1]), whole(dropped), whole(kept)])
    caption = (
        "Decontamination: how many items of each evaluation task were found, in the sources that held most of them, "
        "and how many documents of all sources were dropped for it, or kept because the recipe only measures it."
    )
    columns, folded = (
        ["Task", "Items found in", "Items of the task", "Documents dropped", "Documents kept"],
        len(rows) > ROWS_OPEN,
    )
    title = "All tasks that were looked for" if folded else ""
    return [Table("tab-overlap", caption, columns, rows, overlap.files, 2, title)] if rows else []


def tokenizer_section(artefacts: list[ReportArtefact]) -> ReportSection | None:
    """How well each tokenizer fits each source."""
    analyses = load(artefacts, "tokenizer_comparison", "analysis.json")
    if not analyses or not analyses[-1][1]["rows"]:
        return None
    _, analysis, file = analyses[-1]
    rows, chosen = analysis["rows"], analysis["chosen"]
    cells = {(r["tokenizer"], r["source"]): r for r in rows}
    sources = {r["source"]: f"{r['language']} · {r['domain']}" for r in rows}
    labels = {r["tokenizer"]: r["tokenizer"] + (" ✓" if r["tokenizer"] == chosen else "") for r in rows}
    shades: list[list[Cell]] = [[source, about] for source, about in sources.items()]
    for metric in MEASURES:
        values = [r[metric] for r in rows]
        for row in shades:
            found = [cells.get((name, str(row[0])), {}).get(metric) for name in labels]
            row += shaded(found, min(values), max(values))
    worst = max((r for r in rows if r["tokenizer"] == chosen), key=lambda r: r["fertility"], default=rows[0])
    table: list[list[Cell]] = [
        [
            labels[r["tokenizer"]],
            r["source"],
            sources[r["source"]],
            *(whole(r[key]) for key in ("documents", "words", "tokens")),
            f"{r['fertility']:.3f}",
            percent(r["continued_words"]),
            f"{r['bytes_per_token']:.2f}",
            whole(r["digits_per_token"]) if "digits_per_token" in r else "–",
        ]
        for r in rows
    ]
    lead = (
        f"{plural(len(labels), 'tokenizer')} compared on {plural(len(sources), 'source')}; {chosen} was chosen. "
        f"It needs the most tokens a word on {worst['source']} ({worst['fertility']:.2f})."
    )
    fit = (
        "Tokens a word (fertility), and share of words that are cut into several tokens, by source and tokenizer. A "
        "stronger colour is more, on one scale for each of the two, and less is better. ✓ marks the tokenizer chosen."
    )
    same = (
        "The same, with bytes a token and the most digits in one token. Words of Chinese, Japanese, Thai, Lao, "
        "Khmer and Burmese are those that ICU's dictionaries find."
    )
    heads = ["Source", "Language · domain"]
    heads += [two_lines(label, unit) for unit in MEASURES.values() for label in labels.values()]
    columns = ["Tokenizer", "Source", "Language · domain", "Documents", "Words", "Tokens", "Fertility"]
    columns += ["Continued words", "Bytes a token", "Digits a token"]
    measured = Table("tab-tokenizer", same, columns, table, [file], names=3, folded="All tokenizer measurements")
    return ReportSection("tokenizer", "Tokenizer", lead, [Table("tab-fit", fit, heads, shades, [file], 2), measured])
