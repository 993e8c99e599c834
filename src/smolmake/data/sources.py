"""Reading datasets: Parquet, JSONL (plain, gzip, zstd) and text files, row by row in bounded memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.errors import UserError, did_you_mean
from smolmake.files import matching_files

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")


def data_files(place: dict[str, Any], toy_folder: Path | None) -> list[Path]:
    """The files of a dataset: `place` is {path} or {toy}, as the recipe's `Files` section says."""
    if "toy" not in place:
        return matching_files(place["path"], Path.cwd())
    assert toy_folder is not None
    path = toy_folder / place["toy"]
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.is_file():
        known = sorted(file.name for file in toy_folder.iterdir())
        raise UserError(
            "the toy has no such file", key="toy", value=place["toy"], remedy=did_you_mean(path.name, known)
        )
    return [path]


def file_format(path: Path, asked: str) -> str:
    """parquet, jsonl or text: as asked, or by the file's name."""
    if asked != "auto":
        return asked
    if path.name.endswith(JSONL):
        return "jsonl"
    return "parquet" if path.suffix == ".parquet" else "text"


def read_rows(path: Path, asked: str = "auto", columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a file as dictionaries; a text file is one row with the column `text`.

    Raises:
        UserError: if the file is damaged or lacks one of `columns`.
    """
    readers = {"parquet": _read_parquet, "jsonl": _read_jsonl, "text": _read_text}
    return readers[file_format(path, asked)](path, columns)


def _read_parquet(path: Path, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError("not a readable Parquet file", file=path, value=error, remedy="fetch it again") from None
    _check_columns(path, columns, file.schema_arrow.names)
    try:
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:
        raise UserError("this Parquet file is damaged", file=path, value=error, remedy="fetch it again") from None


def _read_jsonl(path: Path, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    with _open_text(path) as lines:
        number = 0
        try:
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("the line is not a JSON object")
                _check_columns(path, columns, list(row))
                yield row
        except (ValueError, OSError, RecursionError) as error:
            raise UserError(
                f"cannot be read at line {number} or just after it",
                file=path, value=error, remedy="each line must be one JSON object in UTF-8; mend or remove the line",
            ) from None  # fmt: skip


def _read_text(path: Path, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    _check_columns(path, columns, ["text"])
    try:
        yield {"text": path.read_text(encoding="utf-8")}
    except UnicodeDecodeError as error:
        raise UserError("not a UTF-8 text file", file=path, value=error, remedy="convert or remove it") from None


def _open_text(path: Path) -> TextIO:
    """The file's text; Arrow's streams tell a compressed file that was cut, which others read as if it ended there."""
    if path.suffix in COMPRESSIONS:
        stream = pa.CompressedInputStream(str(path), COMPRESSIONS[path.suffix])
        return io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8")
    return path.open(encoding="utf-8")


def _check_columns(path: Path, columns: list[str] | None, present: list[str]) -> None:
    for column in columns or []:
        if column not in present:
            raise UserError(
                f"the column `{column}` is not in this file",
                file=path,
                key="text" if column == "text" else None,
                value=column,
                remedy=f"{did_you_mean(column, present)} Name the column in the recipe: `text: COLUMN`.",
            )
