"""Data is read alike from every format, and a damaged file is an error that names it, never silently short."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from smolmake.data.readers import count_rows, data_files, read_rows
from smolmake.errors import UserError
from smolmake.graph.specs.data import GeneratedDataset, PathDataset

ROWS = [{"text": f"row {number} äöü 🦉", "id": number} for number in range(300)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=100)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.parquet": write_parquet,
    "a.jsonl": lambda path: path.write_bytes(LINES),
    "a.ndjson": lambda path: path.write_bytes(LINES),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES)),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(LINES)),
}


def error_of(path: Path, columns: list[str] | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        list(read_rows(path, columns=columns))
    assert caught.value.file == path and len(str(caught.value).splitlines()) <= 12
    return caught.value


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    assert list(read_rows(tmp_path / name)) == ROWS
    assert [row["text"] for row in read_rows(tmp_path / name, columns=["text"])] == [row["text"] for row in ROWS]


def test_a_text_file_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Line one\nLine two ä\n")
    assert list(read_rows(tmp_path / "a.md", columns=["text"])) == [{"text": "Line one\nLine two ä\n"}]


def test_the_format_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "a.data").write_bytes(LINES)
    assert list(read_rows(tmp_path / "a.data", "jsonl")) == ROWS


def test_empty_lines_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"text": "a"}\n\n  \n{"text": "b"}')
    assert [row["text"] for row in read_rows(tmp_path / "a.jsonl")] == ["a", "b"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_column_names_the_nearest(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    error = error_of(tmp_path / name, ["texts"])
    assert "`texts`" in error.what and "did you mean `text`?" in error.remedy


def test_a_missing_text_column_of_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert "`content`" in error_of(tmp_path / "a.txt", ["content"]).what


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
@pytest.mark.parametrize("left", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_an_error(tmp_path: Path, name: str, left: float) -> None:
    WRITERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: max(10, int(len(content) * left))])
    error_of(tmp_path / name)


@pytest.mark.parametrize(("name", "compress"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstandard.compress)])
def test_files_of_several_compressed_parts_are_read_to_their_end(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes]
) -> None:
    # As pigz, pzstd and `cat a.zst b.zst` make them.
    (tmp_path / name).write_bytes(compress(LINES) + compress(LINES))
    assert list(read_rows(tmp_path / name)) == ROWS + ROWS


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
@pytest.mark.parametrize("place", [0.0, 0.2, 0.5])
def test_a_file_with_damaged_bytes_is_an_error(tmp_path: Path, name: str, place: float) -> None:
    WRITERS[name](tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    first = int(len(content) * place)
    for position in range(first, min(first + 60, len(content))):
        content[position] ^= 0x5A
    (tmp_path / name).write_bytes(content)
    error_of(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("cut.jsonl", b'{"text": "a"}\n{"text": "b', "line 2"),
        ("list.jsonl", b'{"text": "a"}\n["b"]\n', "line 2"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "\xe4"}\n', ""),
        ("binary.jsonl", bytes(range(256)), ""),
        ("latin.txt", b"\xe4\xf6\xfc", ""),
        ("not.jsonl.gz", b"plain", ""),
        ("not.jsonl.zst", b"plain", ""),
        ("not.parquet", b"plain", ""),
        ("empty.parquet", b"", ""),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert line in error_of(tmp_path / name).what


def test_a_deeply_nested_line_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ' + "[" * 100_000)
    error_of(tmp_path / "a.jsonl")


def files_of(path: str) -> list[Path]:
    return data_files(PathDataset(path=path, format="auto", content=""), None)


def test_files_of_a_folder_and_a_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("d/b.txt", "d/a.txt", "d/deep/c.jsonl", "d/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [p.name for p in files_of("d")] == ["a.txt", "b.txt", "c.jsonl"]
    assert [p.name for p in files_of("d/*.txt")] == ["a.txt", "b.txt"]
    assert [p.name for p in files_of("d/**/*.jsonl")] == ["c.jsonl"]
    assert [p.name for p in files_of(str(tmp_path / "d" / "b.txt"))] == ["b.txt"]


def test_what_a_script_has_generated_is_a_file_a_folder_a_glob_or_all(tmp_path: Path) -> None:
    for name in ("files/b.txt", "files/d/a.txt", "manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    named = {"b.txt": ["b.txt"], "d": ["a.txt"], "*.txt": ["b.txt"], "": ["b.txt", "a.txt"]}
    for pattern, names in named.items():
        assert [path.name for path in data_files(GeneratedDataset(generated=pattern, format="auto"), tmp_path)] == names


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name)
        assert count_rows(tmp_path / name) == len(list(read_rows(tmp_path / name))), name
    (tmp_path / "a.txt").write_text("a\nb\n")
    assert count_rows(tmp_path / "a.txt") == 1


def test_an_unknown_generated_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "code.parquet").touch()
    with pytest.raises(UserError) as caught:
        data_files(GeneratedDataset(generated="code.parket", format="auto"), tmp_path)
    assert "did you mean `code.parquet`?" in caught.value.remedy
