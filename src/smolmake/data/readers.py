"""Reading datasets row by row in bounded memory: Parquet, Arrow, JSONL (plain, gzip, zstd), text files, code trees."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.errors import UserError, did_you_mean
from smolmake.graph.specs.data import FileDataset, PathDataset
from smolmake.listing import matching_files

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".json.gz", ".json.zst")
ARROW = (".arrow", ".feather", ".ipc")
FILES = "files"  # the folder of what a script has generated, in its step's own
BATCH_ROWS, BATCH_BYTES = 1024, 2**26
LANGUAGES = {  # of code, by the endings of their files
    "Assembly": "s asm", "C": "c h", "C#": "cs", "C++": "cc cpp cxx hh hpp", "CSS": "css", "CUDA": "cu cuh",
    "Dart": "dart", "Fortran": "f f90", "Go": "go", "HTML": "html htm", "Haskell": "hs", "Java": "java",
    "JavaScript": "js mjs jsx", "Julia": "jl", "Kotlin": "kt kts", "Lua": "lua", "Markdown": "md markdown",
    "OCaml": "ml mli", "PHP": "php", "Perl": "pl pm", "Python": "py pyi", "R": "r", "Ruby": "rb", "Rust": "rs",
    "SQL": "sql", "Scala": "scala", "Shell": "sh bash", "Swift": "swift", "TeX": "tex", "TypeScript": "ts tsx",
}  # fmt: skip
LANGUAGE_OF_NAME = {
    "Makefile": "Makefile",
    "Dockerfile": "Dockerfile",
    "CMakeLists.txt": "CMake",
    "Snakefile": "Python",
}
LANGUAGE_OF_SUFFIX = {f".{suffix}": language for language, suffixes in LANGUAGES.items() for suffix in suffixes.split()}
Row = dict[str, Any]
Trouble = Callable[[UserError], None]


class MissingColumn(UserError):
    """A column that a file lacks. Who knows what it was wanted for names the recipe's key, and the remedy."""

    def __init__(self, column: str, present: Iterable[str], *, file: Any, place: str = "this file") -> None:
        self.column, self.present = column, list(present)
        remedy = did_you_mean(column, self.present)
        super().__init__(f"the column `{column}` is not in {place}", file=file, value=column, remedy=remedy)


def data_files(dataset: FileDataset, generated: Path | None) -> list[Path]:
    """The files of a dataset; `generated` is the folder of the step that generated it, if one did."""
    if isinstance(dataset, PathDataset):
        return matching_files(dataset.path, Path.cwd())
    assert generated is not None
    return generated_files(dataset.generated, generated / FILES)


def generated_files(pattern: str, folder: Path) -> list[Path]:
    """The files in a folder of generated data that a recipe means by what follows the name of the data."""
    files = matching_files(pattern, folder)
    if not files:
        written = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        remedy = did_you_mean(pattern, written) if written else "let the script write files under its --output"
        raise UserError("the script has written no such file", key="generated", value=pattern, remedy=remedy)
    return files


def count_rows(path: Path) -> int:
    """The rows of a file: of a Parquet or Arrow file, lines of JSONL; any other file is one."""
    kind = file_format(path, "auto")
    if kind == "parquet":
        return int(open_parquet(path).metadata.num_rows)
    if kind == "arrow":
        return sum(batch.num_rows for batch in open_arrow(path)[1])
    if kind == "text":
        return 1
    with _open_lines(path) as lines:
        return sum(bool(line.strip()) for line in lines)


def language_of(path: Path) -> str:
    """The language as The Stack names it; empty for files that are not known as code."""
    return LANGUAGE_OF_NAME.get(path.name) or LANGUAGE_OF_SUFFIX.get(path.suffix.lower(), "")


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


def open_parquet(path: Path) -> pq.ParquetFile:
    """A Parquet file, whose footer is read; UserError if it has none."""
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError("not a readable Parquet file", file=path, value=error, remedy="fetch it again") from None


def _read_parquet(path: Path, columns: list[str] | None, tell: Trouble) -> Iterator[Row]:
    try:
        file = open_parquet(path)
    except UserError as error:
        tell(error)
        return
    check_columns(path, columns, file.schema_arrow.names)
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    widest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    size = min(BATCH_ROWS, max(1, BATCH_BYTES // max(widest, 1)))
    batches = file.iter_batches(batch_size=size, columns=columns)
    yield from _rows_of(batches, UserError("this Parquet file is damaged", file=path, remedy="fetch it again"), tell)


def _read_arrow(path: Path, columns: list[str] | None, tell: Trouble) -> Iterator[Row]:
    try:
        names, batches = open_arrow(path)
    except UserError as error:
        tell(error)
        return
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


def _read_jsonl(path: Path, columns: list[str] | None, tell: Trouble) -> Iterator[Row]:
    remedy = "each line must be one JSON object in UTF-8: mend or remove the line"
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
                check_columns(path, columns, list(row), f"this file (line {number})")
                yield row
    except (OSError, ValueError) as error:
        tell(UserError(f"cannot be read after line {number}", file=path, value=error, remedy="fetch it again"))


def _read_text(path: Path, columns: list[str] | None, tell: Trouble, code: bool) -> Iterator[Row]:
    row: Row = {"text": None, "path": path.as_posix()} | ({"language": language_of(path)} if code else {})
    check_columns(path, columns, list(row))
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


def check_columns(path: Path, columns: list[str] | None, present: list[str], place: str = "this file") -> None:
    """Raise MissingColumn unless all `columns` are present."""
    for column in columns or []:
        if column not in present:
            raise MissingColumn(column, present, file=path, place=place)
