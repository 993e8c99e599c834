"""The text of evaluation items, as decontamination needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolmake.data.sources import file_format, read_rows


def task_items(files: list[Path]) -> dict[str, list[str]]:
    """For each task (a data file's name) the text of its items: every string in a row, choices included."""
    return {
        file.name.split(".")[0]: [" ".join(_strings(row)) for row in read_rows(file)]
        for file in files
        if file_format(file, "auto") != "text"
    }


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return []
