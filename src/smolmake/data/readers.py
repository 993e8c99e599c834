"""Reading datasets row by row in bounded memory: Parquet, Arrow, JSONL, CSV, TSV, text files, code trees.

Only a JSON array is read whole, which takes some times its size of memory.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from smolmake.data.columnar import open_arrow, open_parquet, read_arrow, read_parquet
from smolmake.data.columns import Row, Trouble, check_columns, check_names, twice
from smolmake.errors import UserError, did_you_mean
from smolmake.graph.specs.data import FileDataset, PathDataset
from smolmake.listing import Listing
from smolmake.recipe.formats import TEXTS, compression, file_format, list_data

FILES = "files"  # the folder of what a script has generated, in its step's own
READ_FOR_ROWS = 2**20  # of a text file's beginning, to see whether it holds rows
DELIMITERS = {"csv": ",", "tsv": "\t"}
LINES = "each line must be one JSON object in UTF-8: "
UTF8 = "utf-8-sig"  # a byte-order mark at the beginning is no part of the content
# How files begin that say what they are: gzip, zstd (a frame, or what pzstd writes before it), Parquet, ...
SIGNATURES = {
    b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x50\x2a\x4d\x18": "zstd", b"PAR1": "parquet",
    b"ARROW1": "arrow", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"%PDF": "PDF", b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip
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


def data_files(dataset: FileDataset, generated: Path | None) -> list[Path]:
    """The files of a dataset; `generated` is the folder of the step that generated it, if one did."""
    return data_listing(dataset, generated).files


def data_listing(dataset: FileDataset, generated: Path | None) -> Listing:
    """The files of a dataset, and what is passed over.

    Raises:
        UserError: if the script that generates it has written none.
    """
    if isinstance(dataset, PathDataset):
        return list_data(dataset.path, dataset.format, Path.cwd())
    assert generated is not None
    return generated_files(dataset.generated, generated / FILES, dataset.format)


def generated_files(pattern: str, folder: Path, asked: str) -> Listing:
    """The files in a folder of generated data that a recipe means by what follows the name of the data."""
    listing = list_data(pattern, asked, folder)
    if not listing.names:
        written = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        remedy = did_you_mean(pattern, written) if written else "let the script write files under its --output"
        raise UserError("the script has written no such file", key="generated", value=pattern, remedy=remedy)
    return listing


def count_rows(path: Path) -> int:
    """The rows of a file; lines of JSONL are not looked into, and a text is one row."""
    kind = file_format(path)
    if kind == "parquet":
        return int(open_parquet(path).metadata.num_rows)
    if kind == "arrow":
        return sum(batch.num_rows for batch in open_arrow(path)[1])
    if kind == "jsonl":
        with open_bytes(path) as lines:
            return sum(bool(line.strip()) for line in lines)
    return 1 if kind in TEXTS else sum(1 for _ in read_rows(path))


def language_of(path: Path) -> str:
    """The language as The Stack names it; empty for files that are not known as code."""
    return LANGUAGE_OF_NAME.get(path.name) or LANGUAGE_OF_SUFFIX.get(path.suffix.lower(), "")


def read_rows(
    path: Path,
    asked: str = "auto",
    columns: list[str] | None = None,
    trouble: Trouble | None = None,
    base: Path | None = None,
) -> Iterator[Row]:
    """Rows of a file as dictionaries; a text file is one row with `text` and `path`, a file of code has `language` too.

    Such a `path` is the file's name within `base`, the folder of its data, so that a moved folder is the same data.

    All values of CSV and TSV are text. With `trouble`, what cannot be read is told to it and passed over: a line of
    JSONL or CSV, the rest of another file.

    Raises:
        UserError: if the file is damaged, is not of its format, or lacks one of `columns`. A lacking column is never
            passed over.
    """
    kind = file_format(path, asked)
    tell = trouble or _stop
    try:
        check_signature(path, kind)
    except UserError as error:
        tell(error)
        return
    readers = {"parquet": read_parquet, "arrow": read_arrow, "jsonl": _read_jsonl, "json": _read_json}
    if kind in readers:
        yield from readers[kind](path, columns, tell)
    elif kind in DELIMITERS:
        yield from _read_table(path, columns, tell, DELIMITERS[kind])
    else:
        name = (path if base is None else path.relative_to(base)).as_posix()
        row = {"text": None, "path": name} | ({"language": language_of(path)} if kind == "code" else {})
        yield from _read_text(path, row, columns, tell, asked)


def check_signature(path: Path, kind: str) -> None:
    """Raise UserError for a file that begins as one of another format or compression than its name says."""
    with path.open("rb") as file:
        begin = file.read(8)
    found = next((name for signature, name in SIGNATURES.items() if begin.startswith(signature)), None)
    expected = compression(path) if kind not in ("parquet", "arrow") else kind
    if begin and found != expected and (found or expected in ("gzip", "zstd")):
        said = f"{kind} with {expected}" if expected not in (None, kind) else kind
        raise UserError(
            f"its name or `format` says {said}, but this is " + (f"a {found} file" if found else f"no {expected} file"),
            file=path, value=begin,
            remedy="rename it, unpack it, convert it to UTF-8, or take it out; or set `format` to what it is",
        )  # fmt: skip


def _stop(error: UserError) -> None:
    raise error from None


def _read_jsonl(
    path: Path, columns: list[str] | None, tell: Trouble, remedy: str = "mend or remove the line"
) -> Iterator[Row]:
    number = 0
    try:
        with open_bytes(path) as lines:
            for line in lines:  # bytes: a text's lines end at U+2028 and the like too
                number += 1
                if not line.strip():
                    continue
                try:
                    row = _parsed(line.decode(UTF8 if number == 1 else "utf-8"))
                    if not isinstance(row, dict):
                        raise ValueError("the line is not a JSON object")
                except (ValueError, RecursionError) as error:
                    tell(UserError(f"cannot read line {number}", file=path, value=error, remedy=LINES + remedy))
                    continue
                check_columns(path, columns, list(row), f"this file (line {number})")
                yield row
    except (OSError, ValueError) as error:
        tell(UserError(f"cannot be read after line {number}", file=path, value=error, remedy="fetch it again"))


def _read_json(path: Path, columns: list[str] | None, tell: Trouble) -> Iterator[Row]:
    """The objects of one array, or a row a line."""
    remedy = "or the file one array of objects"
    try:
        with open_bytes(path) as file:
            is_array = file.read(64).decode(UTF8, "replace").lstrip().startswith("[")
        if is_array:
            with open_bytes(path) as file:
                rows = _parsed(file.read().decode(UTF8))
    except (OSError, ValueError, RecursionError) as error:
        tell(UserError("not a readable JSON file", file=path, value=error, remedy=LINES + remedy))
        return
    if not is_array:
        yield from _read_jsonl(path, columns, tell, remedy)
        return
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            check_columns(path, columns, list(row), f"this file (row {number})")
            yield row
        else:
            tell(UserError(f"row {number} is not a JSON object", file=path, value=row, remedy=LINES + remedy))


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object has the key `{twice([name for name, _ in pairs])}` twice")
    return found


def _read_table(path: Path, columns: list[str] | None, tell: Trouble, delimiter: str) -> Iterator[Row]:
    """The rows under a header of names; a field in quotes may hold the delimiter, quotes written twice, and lines."""
    csv.field_size_limit(sys.maxsize)
    line = 0
    try:
        with io.TextIOWrapper(open_bytes(path), encoding=UTF8, newline="") as text:
            table = csv.reader(text, delimiter=delimiter, strict=True)
            header = next(filter(None, table), [])
            line = table.line_num
            check_names(path, header)
            check_columns(path, columns if header else None, header)
            for number, fields in enumerate(table, 1):
                first, line = line + 1, table.line_num
                if fields and len(fields) != len(header):
                    told = f"row {number} (line {first}) has {len(fields)} fields, but the header has {len(header)}"
                    tell(UserError(told, file=path, value=fields, remedy="put a field with a delimiter into quotes"))
                elif fields:
                    yield dict(zip(header, fields, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        remedy = "it must be UTF-8, with every quote closed and quotes in quoted fields written twice"
        tell(UserError(f"cannot be read after line {line}", file=path, value=error, remedy=remedy))


def _read_text(path: Path, row: Row, columns: list[str] | None, tell: Trouble, asked: str) -> Iterator[Row]:
    check_columns(path, columns, list(row))
    try:
        with open_bytes(path) as file:
            content = file.read()
        check_text(path, content, asked)
        row["text"] = content.decode(UTF8).replace("\r\n", "\n").replace("\r", "\n")
    except UserError as error:
        tell(error)
    except (OSError, ValueError) as error:
        tell(UserError("not a UTF-8 text file", file=path, value=error, remedy="convert or remove it"))
    else:
        yield {column: row[column] for column in columns or row}


def check_text(path: Path, content: bytes, asked: str) -> None:
    """Raise UserError for the content, or the beginning of it, of a text file that is none, or holds rows of JSON."""
    if b"\0" in content:
        remedy = "remove it, or choose files by a glob; a file with rows must be named for what it is, or say `format`"
        raise UserError("a binary file, not text", file=path, value=content[:16], remedy=remedy)
    lines = content[:READ_FOR_ROWS].removeprefix(b"\xef\xbb\xbf").split(b"\n", 2)[:2]
    if asked == "auto" and _is_object(lines[0]) and all(map(_is_object, filter(None, lines))):
        raise UserError(
            "its name says text, but it holds rows of JSON", file=path, value=lines[0][:60],
            remedy="rename it to .jsonl, or set `format: jsonl`; with `format: text` it is read as it is",
        )  # fmt: skip


def _is_object(line: bytes) -> bool:
    try:
        return line.startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes; Arrow's streams tell a compressed file that was cut, which others read as if it ended there."""
    if compressed := compression(path):
        return io.BufferedReader(pa.CompressedInputStream(str(path), compressed), 2**20)
    return path.open("rb")
