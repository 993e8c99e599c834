"""Rows of Parquet and Arrow files, in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.data.columns import Row, Trouble, check_columns, check_names
from smolmake.errors import UserError

BATCH_ROWS, BATCH_BYTES = 1024, 2**26


def open_parquet(path: Path) -> pq.ParquetFile:
    """A Parquet file, whose footer is read; UserError if it has none."""
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError("not a readable Parquet file", file=path, value=error, remedy="fetch it again") from None


def read_parquet(path: Path, columns: list[str] | None, tell: Trouble) -> Iterator[Row]:
    try:
        file = open_parquet(path)
    except UserError as error:
        tell(error)
        return
    check_names(path, file.schema_arrow.names)
    check_columns(path, columns, file.schema_arrow.names)
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    widest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    size = min(BATCH_ROWS, max(1, BATCH_BYTES // max(widest, 1)))
    batches = file.iter_batches(batch_size=size, columns=columns)
    yield from _rows_of(batches, UserError("this Parquet file is damaged", file=path, remedy="fetch it again"), tell)


def read_arrow(path: Path, columns: list[str] | None, tell: Trouble) -> Iterator[Row]:
    try:
        names, batches = open_arrow(path)
    except UserError as error:
        tell(error)
        return
    check_names(path, names)
    check_columns(path, columns, names)
    cut = (batch.select(columns) if columns else batch for batch in batches)
    yield from _rows_of(cut, _damaged_arrow(path), tell)


def open_arrow(path: Path) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """The columns and batches of Arrow IPC, as file or as stream: `datasets` keeps its cache as streams."""
    try:
        source = pa.memory_map(str(path))
        try:
            file = pa.ipc.open_file(source)
            return file.schema.names, (file.get_batch(number) for number in range(file.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            stream = pa.ipc.open_stream(source)
            return stream.schema.names, stream
    except (OSError, ValueError) as error:
        raise _damaged_arrow(path, error) from None


def _damaged_arrow(path: Path, error: Exception | None = None) -> UserError:
    return UserError("this Arrow file is damaged", file=path, value=error, remedy="fetch it again")


def _rows_of(batches: Iterator[pa.RecordBatch], trouble: UserError, tell: Trouble) -> Iterator[Row]:
    while True:
        try:
            batch = next(batches, None)
            rows = [] if batch is None else batch.to_pylist()
        except UnicodeDecodeError:  # a text that is none, in a file that is whole otherwise
            yield from _one_by_one(batch, trouble.file, tell)
            continue
        except (OSError, ValueError) as error:
            trouble.value = error
            tell(trouble)
            return
        if batch is None:
            return
        yield from rows


def _one_by_one(batch: pa.RecordBatch, path: Path, tell: Trouble) -> Iterator[Row]:
    """The rows of a batch of which some hold bytes that are no UTF-8."""
    for number in range(batch.num_rows):
        try:
            rows = batch.slice(number, 1).to_pylist()
        except UnicodeDecodeError as error:
            remedy = "mend or remove the row"
            tell(UserError("a row of this file is not UTF-8 text", file=path, value=error, remedy=remedy))
            continue
        yield from rows
