"""The table of all scores of a recipe: a row for each checkpoint, suite, task, metric, filter and length.

The report reads scores from it and from nowhere else, and it lies beside the report, for other programs.
docs/reference/artefacts.md describes the columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.errors import UserError
from smolmake.files import new_file
from smolmake.report.artifacts import Loaded, Overlap, ReportArtefact, load, read_overlap
from smolmake.report.samples import best_of, join_samples
from smolmake.stats import item_interval

SCORES = "scores.parquet"
TEXTS, NUMBERS, COUNTS = pa.list_(pa.string()), pa.list_(pa.float64()), pa.list_(pa.int64())
SCHEMA = pa.schema(
    [
        # whose score it is
        ("recipe", pa.string()), ("checkpoint", pa.string()), ("ends", pa.string()), ("stage", pa.string()),
        ("checkpoint_step", pa.string()), ("milestone", pa.int64()), ("tokens", pa.int64()),
        ("logits_apart", pa.float64()),
        # what was asked, and how
        ("suite", pa.string()), ("task", pa.string()), ("metric", pa.string()), ("filter", pa.string()),
        ("length", pa.int64()), ("formulation", pa.string()), ("shots", pa.int64()), ("repeats", pa.int64()),
        ("batch_tokens", pa.int64()), ("dtype", pa.string()),
        # the score
        ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64()), ("n", pa.int64()),
        ("chance", pa.float64()), ("chance_low", pa.float64()), ("chance_high", pa.float64()),
        ("share", pa.bool_()), ("higher_is_better", pa.bool_()),
        ("beside", pa.bool_()),
        # what the training data held of it
        ("items_searched", pa.int64()), ("items_found", pa.int64()), ("clean_n", pa.int64()),
        ("clean_value", pa.float64()), ("clean_low", pa.float64()), ("clean_high", pa.float64()),
        # how it was answered
        ("thoughts", pa.float64()), ("unclosed", pa.float64()), ("cut", pa.float64()), ("truncated", pa.int64()),
        ("merged", COUNTS),
        # what it is made from
        ("items", NUMBERS), ("clusters", COUNTS), ("tasks", TEXTS), ("questions", TEXTS), ("file", pa.string()),
    ]
)  # fmt: skip
OFF: dict[str, Any] = {  # what a row of scores.json leaves out
    "suite": "", "filter": "none", "shots": 0, "repeats": 1, "share": True, "higher_is_better": True, "beside": False,
    "samples": [], "truncated": 0, "unclosed": 0.0, "cut": 0.0, "merged": [], "items": [], "clusters": [],
    "tasks": [], "questions": [],
}  # fmt: skip


def score_table(artefacts: list[ReportArtefact], recipe: str) -> pa.Table:
    """The scores of evaluations and suites, in the order of the checkpoints, a checkpoint's own tasks first."""
    return pa.Table.from_pylist(list(_rows(artefacts, recipe, read_overlap(artefacts))), SCHEMA)


def _rows(artefacts: list[ReportArtefact], recipe: str, overlap: Overlap) -> Iterator[dict[str, Any]]:
    suites = load(artefacts, "suite", "scores.json")
    for evaluation, raw, file in load(artefacts, "evaluation", "scores.json"):
        about = {
            "recipe": recipe,
            "checkpoint": evaluation.name,
            "ends": evaluation.checkpoint,
            "stage": evaluation.stage.name,
            "checkpoint_step": evaluation.measures,
            "milestone": evaluation.milestone,
            "tokens": raw["tokens"] or None,
        }
        found: dict[str, list[Loaded]] = {"": [(evaluation, raw, file)]}
        for part in suites:
            if part[1]["checkpoint"] == evaluation.name:
                found.setdefault(part[1]["suite"], []).append(part)
        for suite, parts in found.items():
            about |= {"suite": suite, "file": parts[0][2], "logits_apart": parts[0][0].facts.get("logits_apart")}
            for score in join_samples([[_whole(each) for each in content["scores"]] for _, content, _ in parts]):
                for row in (score, *best_of(score)):
                    yield row | about | _contamination(row, overlap)


def _whole(score: dict[str, Any]) -> dict[str, Any]:
    """A row of scores.json with all keys."""
    return OFF | {"chance_low": score["chance"], "chance_high": score["chance"]} | score


def _contamination(row: dict[str, Any], overlap: Overlap) -> dict[str, float]:
    """How many items the sources were searched for, and how many they held; nothing of what was not looked for."""
    asked = [task for task in row["questions"] or row["tasks"] or [row["task"]] if task in overlap.tasks]
    counts = [overlap.found(task) for task in asked]
    if not counts:
        return {}
    found: dict[str, float] = {
        "items_searched": sum(items for _, items in counts), "items_found": sum(found for found, _ in counts)
    }  # fmt: skip
    # The items are the same, in the same order, if none was left out on either side.
    held = overlap.numbers(asked[0]) if len(asked) == 1 and found["items_searched"] == row.get("task_items") else None
    return found if held is None else found | _on_clean_items(row, held)


def _on_clean_items(row: dict[str, Any], held: set[int]) -> dict[str, float]:
    """The score on the items that no source held, with its interval; nothing where it is no mean over items."""
    kept = [number for number in range(len(row["items"])) if number not in held]
    if not kept:
        return {"clean_n": 0} if row["items"] else {}
    items, clusters = ([row[key][number] for number in kept if row[key]] for key in ("items", "clusters"))
    low, high = item_interval(items, clusters, row["repeats"], row["share"])
    return {"clean_n": len(items), "clean_value": math.fsum(items) / len(items), "clean_low": low, "clean_high": high}


def write_scores(table: pa.Table, place: Path) -> None:
    with new_file(place) as beside:
        pq.write_table(table, beside, compression="zstd")


def read_scores(place: Path) -> pa.Table:
    """A table that `write_scores` wrote.

    Raises:
        UserError: if there is none, or it has other columns.
    """
    try:
        return pq.read_table(place).select(SCHEMA.names)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(
            "there is no readable table of scores", file=place, value=error,
            remedy="run the recipe again: its report writes the table",
        ) from None  # fmt: skip
