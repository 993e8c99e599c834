"""The rows of post-training: which were trained, cut or left out, and what each source gave of the tokens."""

from __future__ import annotations

from typing import Any

from smolmake.posttrain.findings import told_checks
from smolmake.report.artifacts import ReportArtefact, of_kind
from smolmake.report.blocks import Block, Cell, Table
from smolmake.report.text import amount, compact, percent, whole

COLUMNS = ["Step", "Source", "Read", "Skipped", "Used", "Without targets", "Truncated", "Trained", "Tokens",
           "Of the step", "Tokens a row", "Targets", "Skipped first"]  # fmt: skip


def conversation_table(artefacts: list[ReportArtefact]) -> list[Block]:
    """A row for each source of each step that trained on conversations or pairs."""
    trained = [a for a in of_kind(artefacts, "posttraining", "alignment") if a.facts.get("sources")]
    rows: list[list[Cell]] = []
    lost: list[str] = []
    for artefact in trained:
        sources = artefact.facts["sources"]
        tokens = sum(of["tokens"] for of in sources.values())
        for name, of in sources.items():
            counts = [whole(of[key]) for key in ("rows", "skipped", "used", "without_targets", "truncated", "trained")]
            rows.append([
                artefact.name, name, *counts, compact(of["tokens"]), percent(of["tokens"] / max(tokens, 1)),
                amount(of["tokens"] / max(of["trained"], 1)), percent(of["targets"] / max(of["tokens"], 1)),
                of["first_skipped"] or "–",
            ])  # fmt: skip
            lost += [
                f"{piece} of {whole(count)} rows of {name} in {artefact.name}" for piece, count in of["lost"].items()
            ]
    caption = (
        "Rows of conversations and pairs by source: read; skipped, because they are of no form that can be trained; "
        "used, the share that the recipe takes; without a target within max_length, dropped; cut to max_length; "
        "trained. Their tokens, as a share of the step's, a row, and how many of them are targets."
    )
    if lost:
        caption += f" Left out by the chat template, as the recipe allows: {', '.join(lost)}."
    files = [a.file("manifest.json") for a in trained]
    blocks: list[Block] = [Table("tab-conversations", caption, COLUMNS, rows, files, names=2)] if rows else []
    found: list[list[Cell]] = [
        [artefact.name, name, told]
        for artefact in trained
        for name, of in artefact.facts["sources"].items()
        for told in [*told_checks(of.get("checks", {})), *_bias(of)]
    ]
    caption = "What may be wrong with rows that were trained, with the numbers of the first ones."
    return [*blocks, Table("tab-row-checks", caption, ["Step", "Source", "Rows"], found, files, 3)] if found else blocks


def _bias(of: dict[str, Any]) -> list[str]:
    """Of pairs: an answer that is nearly always the longer one teaches length."""
    share = of.get("chosen_longer", 0) / max(of["trained"], 1)
    return [f"chosen is the longer answer in {percent(share, 0)} of the pairs"] if of.get("chosen_longer") else []
