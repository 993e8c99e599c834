"""Reading datasets row by row in bounded memory: Parquet, Arrow, JSONL (plain, gzip, zstd), text files, code trees."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.data.languages import PASSED_OVER, language_of
from smolmake.errors import UserError, did_you_mean
from smolmake.files import matching_files

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".json.gz", ".json.zst")
ARROW = (".arrow", ".feather", ".ipc")
BATCH_ROWS = 1024
Row = dict[str, Any]
Trouble = Callable[[UserError], None]


def data_files(place: dict[str, Any], toy_folder: Path | None) -> list[Path]:
    """The files of a dataset: `place` is {path} or {toy}, as the recipe's `Files` section says."""
    if "toy" not in place:
        files = matching_files(place["path"], Path.cwd())
        return files if place.get("format") != "code" else [file for file in files if not PASSED_OVER & set(file.parts)]
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
    """parquet, arrow, jsonl, text or code: as asked, or by the file's name."""
    if asked != "auto":
        return asked
    if path.name.endswith(JSONL):
        return "jsonl"
    if path.name.endswith(ARROW):
        return "arrow"
    return "parquet" if path.suffix == ".parquet" else "text"


def read_rows(
    path: Path, asked: str = "auto", columns: list[str] | None = None, trouble: Trouble | None = None
) -> Iterator[Row]:
    """Rows of a file as dictionaries; a text file is one row with `text` and `path`, a file of code has `language` too.

    With `trouble`, what cannot be read is told to it and passed over: a line of JSONL, the rest of another file.

    Raises:
        UserError: if the file is damaged or lacks one of `columns`. A lacking column is never passed over.
    """
    readers = {"parquet": _read_parquet, "arrow": _read_arrow, "jsonl": _read_jsonl}
    kind = file_format(path, asked)
    tell = trouble or _stop
    if kind in readers:
        yield from readers[kind](path, columns, tell)
    else:
        yield from _read_text(path, columns, tell, kind == "code")


def _stop(error: UserError) -> None:
    raise error from None


def _read_parquet(path: Path, columns: list[str] | None, tell: Trouble) -> Iterator[Row]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        tell(UserError("not a readable Parquet file", file=path, value=error, remedy="fetch it again"))
        return
    _check_columns(path, columns, file.schema_arrow.names)
    batches = file.iter_batches(batch_size=BATCH_ROWS, columns=columns)
    yield from _rows_of(batches, UserError("this Parquet file is damaged", file=path, remedy="fetch it again"), tell)


def _read_arrow(path: Path, columns: list[str] | None, tell: Trouble) -> Iterator[Row]:
    """Arrow IPC, as file or as stream: `datasets` keeps its cache as streams."""
    trouble = UserError("this Arrow file is damaged", file=path, remedy="fetch it again")
    try:
        source = pa.memory_map(str(path))
        try:
            file = pa.ipc.open_file(source)
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            file = batches = pa.ipc.open_stream(source)
    except (OSError, ValueError) as error:
        trouble.value = error
        tell(trouble)
        return
    _check_columns(path, columns, file.schema.names)
    cut = (batch.select(columns) if columns else batch for batch in batches)
    yield from _rows_of(cut, trouble, tell)


def _rows_of(batches: Iterator[pa.RecordBatch], trouble: UserError, tell: Trouble) -> Iterator[Row]:
    while True:
        try:
            batch = next(batches, None)
            rows = [] if batch is None else batch.to_pylist()
        except (OSError, ValueError) as error:
            trouble.value = error
            tell(trouble)
            return
        if batch is None:
            return
        yield from rows


def _read_jsonl(path: Path, columns: list[str] | None, tell: Trouble) -> Iterator[Row]:
    remedy = "each line must be one JSON object in UTF-8; mend or remove the line, or set `on_error: skip`"
    number = 0
    try:
        with _open_lines(path) as lines:
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("the line is not a JSON object")
                except (ValueError, RecursionError) as error:
                    tell(UserError(f"cannot read line {number}", file=path, value=error, remedy=remedy))
                    continue
                _check_columns(path, columns, list(row), f"line {number}")
                yield row
    except (OSError, ValueError) as error:
        tell(UserError(f"cannot be read after line {number}", file=path, value=error, remedy="fetch it again"))


def _read_text(path: Path, columns: list[str] | None, tell: Trouble, code: bool) -> Iterator[Row]:
    row: Row = {"text": None, "path": path.as_posix()} | ({"language": language_of(path)} if code else {})
    _check_columns(path, columns, list(row))
    try:
        row["text"] = path.read_text(encoding="utf-8")
        yield {column: row[column] for column in columns or row}
    except UnicodeDecodeError as error:
        tell(UserError("not a UTF-8 text file", file=path, value=error, remedy="convert or remove it"))


def _open_lines(path: Path) -> BinaryIO:
    """The file's lines; Arrow's streams tell a compressed file that was cut, which others read as if it ended there."""
    if path.suffix in COMPRESSIONS:
        stream = pa.CompressedInputStream(str(path), COMPRESSIONS[path.suffix])
        return io.BufferedReader(stream, 2**20)
    return path.open("rb")


def _check_columns(path: Path, columns: list[str] | None, present: list[str], place: str = "") -> None:
    for column in columns or []:
        if column not in present:
            raise UserError(
                f"the column `{column}` is not in this file" + (f" ({place})" if place else ""),
                file=path,
                key="text" if column == "text" else None,
                value=column,
                remedy=f"{did_you_mean(column, present)} Name the column in the recipe: `text: COLUMN`.",
            )
