"""Where in a long text a model finds a single needle: depth by length."""

from collections import defaultdict
from typing import Any

from smolmake.report.artifacts import ReportArtefact, load
from smolmake.report.blocks import Table, shaded

Found = dict[tuple[str, str, int], dict[float, list[float]]]  # by suite, task and length: by depth the items
Scored = tuple[str, str, list[dict[str, Any]], str]  # a suite, its checkpoint, its scores and their file


def depth_tables(artefacts: list[ReportArtefact]) -> list[Table]:
    """The share of needles that the last checkpoint of each suite finds: rows of lengths, columns of depths."""
    found = load(artefacts, "suite", "scores.json")
    last = {raw["suite"]: (raw["suite"], raw["checkpoint"], raw["scores"], file) for _, raw, file in found}
    return depth_tables_of(list(last.values()))


def depth_tables_of(scored: list[Scored]) -> list[Table]:
    """The table of depths of suites, if one has needles."""
    found: Found = defaultdict(lambda: defaultdict(list))
    names, files = dict[str, str](), list[str]()
    for suite, checkpoint, scores, file in scored:
        for row in scores:
            for depth, item in zip(row.get("depths", ()), row["items"], strict=False):
                found[suite, row["task"], row["length"]][depth].append(item)
                names[suite] = checkpoint
                files.append(file)
    if not found:
        return []
    depths = sorted({depth for each in found.values() for depth in each})
    rows = []
    for (suite, task, length), each in found.items():
        shares = [sum(each[depth]) / len(each[depth]) if depth in each else None for depth in depths]
        rows.append([f"{task} ({suite}, {names[suite]})", f"{length:,}", *shaded(shares, 0.0, 1.0)])
    caption = (
        "The share of needles that are found, by the length of the text in tokens and by their depth in it, at the "
        "last checkpoint of each suite; a name that ends in _yarn was asked of a copy with YaRN."
    )
    columns = ["Task", "Tokens", *(f"{100 * depth:.0f}%" for depth in depths)]
    return [Table("tab-depths", caption, columns, rows, list(dict.fromkeys(files)), names=1)]
