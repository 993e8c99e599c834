"""The text of evaluation items, as decontamination needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.data.readers import data_files, file_format, read_rows
from smolmake.execution.job import Job
from smolmake.execution.step import Run
from smolmake.graph.specs.data import DocumentsSpec, OverlapSpec

ITEMS = "items.parquet"  # of the suites' tasks: columns `task` and `text`
SCHEMA = pa.schema([("task", pa.string()), ("text", pa.large_string())])


def items_of(job: Job[DocumentsSpec | OverlapSpec, Run]) -> dict[str, list[str]]:
    """For each task that a step's sources are searched for, the text of its items."""
    items: dict[str, list[str]] = {}
    if job.spec.tasks is not None:
        items |= task_items(data_files(job.spec.tasks, job.input("tasks") if "tasks" in job.inputs else None))
    for folder in job.group("suite_items").values():
        for task, texts in read_items(folder / ITEMS).items():
            items.setdefault(task, []).extend(texts)
    return items


def task_items(files: list[Path]) -> dict[str, list[str]]:
    """For each task (a data file's name) the text of its items."""
    return {
        file.name.split(".")[0]: [item_text(row) for row in read_rows(file)]
        for file in files
        if file_format(file, "auto") != "text"
    }


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
