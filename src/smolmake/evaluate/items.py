"""The items of evaluation tasks: what is asked, and what the sources are searched for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.data.readers import data_listing, read_rows
from smolmake.errors import UserError
from smolmake.execution.job import Job
from smolmake.execution.step import Run
from smolmake.graph.specs.data import DocumentsSpec, FileDataset, OverlapSpec
from smolmake.recipe.formats import ABOUT, file_format, without_ending

ITEMS = "items.parquet"  # of the suites' tasks: columns `task` and `text`
SCHEMA = pa.schema([("task", pa.string()), ("text", pa.large_string())])


def items_of(job: Job[DocumentsSpec | OverlapSpec, Run]) -> dict[str, list[str]]:
    """For each task that a step's sources are searched for, the text of its items."""
    items: dict[str, list[str]] = {}
    if job.spec.tasks is not None:
        questions = question_files(job.spec.tasks, job.input("tasks") if "tasks" in job.inputs else None)
        items = {name: [item_text(row) for row in question_rows(path)] for name, path in questions.items()}
    for folder in job.group("suite_items").values():
        for task, texts in read_items(folder / ITEMS).items():
            items.setdefault(task, []).extend(texts)
    return items


def question_files(dataset: FileDataset, generated: Path | None) -> dict[str, Path]:
    """The questions of a recipe's own tasks: files by their names without the ending of their format.

    These are what the tasks can ask and what the sources are searched for. Files beside them that hold no rows, such as
    a README, are told on the log; no task can ask them. `generated` is the folder of the step that generated them.

    Raises:
        UserError: if two files have one name.
    """
    files: dict[str, Path] = {}
    listing = data_listing(dataset.model_copy(update={"format": "text"}), generated)
    told = [name for names in listing.passed_over.values() for name in names]
    for path in listing.files:
        if file_format(path) == "text" or path.name.lower() in ABOUT:
            told.append(path.name)
            continue
        other = files.setdefault(without_ending(path), path)
        if other != path:
            raise UserError(
                f"two files of questions have the name {without_ending(path)}",
                file=path, key="evaluation.data", value=other, remedy="rename or remove one of them",
            )  # fmt: skip
    if told:
        print(f"no questions are in {', '.join(told)}: by its name it holds no rows", file=sys.stderr)
    return files


def question_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of questions.

    Raises:
        UserError: if it is damaged or has none.
    """
    try:
        rows = list(read_rows(path))
    except UserError as error:
        error.key = "evaluation.data"
        raise
    if not rows:
        raise UserError("a file without questions", file=path, key="evaluation.data", remedy="fill or remove it")
    return rows


def item_text(row: dict[str, Any]) -> str:
    """The text of an item: every string in its row, choices included."""
    return " ".join(_strings(row))


def write_items(path: Path, items: dict[str, list[str]]) -> int:
    """Write the items of tasks, one task after the other; returns how many they are."""
    count = 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for task, texts in items.items():
            writer.write_table(pa.table([[task] * len(texts), texts], schema=SCHEMA))
            count += len(texts)
    return count


def read_items(path: Path) -> dict[str, list[str]]:
    """What `write_items` wrote."""
    items: dict[str, list[str]] = {}
    for row in read_rows(path):
        items.setdefault(row["task"], []).append(row["text"])
    return items


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return []
