"""Data is read alike from every format, and a damaged file is an error that names it, never silently short."""

import csv
import gzip
import io
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


def write_arrow(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)


def write_bytes(content: bytes) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        ending = path.suffix.lower()
        path.write_bytes({".gz": gzip.compress, ".zst": zstandard.compress}.get(ending, bytes)(content))

    return write


def table_of(delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["text", "id"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


ARRAY = json.dumps(ROWS, ensure_ascii=False, indent=1).encode()
BOM = b"\xef\xbb\xbf"
WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.parquet": write_parquet,
    "a.PARQUET": write_parquet,
    "a.pq": write_parquet,
    "a.Feather": write_arrow,
    **{name: write_bytes(LINES) for name in ("a.jsonl", "a.ndjson", "a.jsonlines", "a.JSONL", "lines.json", "b.JSON")},
    **{
        name: write_bytes(LINES) for name in ("a.jsonl.gz", "a.jsonl.zst", "a.Jsonl.GZ", "l.json.gz", "b.jsonlines.zst")
    },
    **{name: write_bytes(ARRAY) for name in ("array.json", "array.json.gz", "array.JSON.zst")},
    "bom.jsonl": write_bytes(BOM + LINES),
    "bom.json": write_bytes(BOM + b"\n" + ARRAY),
    "crlf.jsonl": write_bytes(LINES.replace(b"\n", b"\r\n")),
}
TABLES = {
    **{name: write_bytes(table_of(",")) for name in ("a.csv", "a.CSV", "a.csv.gz", "a.csv.zst")},
    **{name: write_bytes(table_of("\t")) for name in ("a.tsv", "a.tab", "a.tsv.gz", "A.TSV.ZST")},
    "bom.csv": write_bytes(BOM + table_of(",")),
    "unix.csv": write_bytes(table_of(",").replace(b"\r\n", b"\n")),
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


@pytest.mark.parametrize("name", TABLES)
def test_tables_give_the_same_rows_as_text(tmp_path: Path, name: str) -> None:
    TABLES[name](tmp_path / name)
    assert list(read_rows(tmp_path / name, columns=["text"])) == [{**row, "id": str(row["id"])} for row in ROWS]
    assert count_rows(tmp_path / name) == len(ROWS)
    assert "did you mean `text`?" in error_of(tmp_path / name, ["texts"]).remedy


def test_fields_of_a_table(tmp_path: Path) -> None:
    content = 'id,text\r\n1,"two\nlines, a comma and ""quotes"""\n\n2,"a\u2028b\u0085c\r\nd"\n007,\n'
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert [(row["id"], row["text"]) for row in read_rows(tmp_path / "a.csv")] == [
        ("1", 'two\nlines, a comma and "quotes"'), ("2", "a\u2028b\u0085c\r\nd"), ("007", ""),
    ]  # fmt: skip
    (tmp_path / "long.csv").write_text("text\n" + "x" * 10**6 + "\n")
    assert len(next(read_rows(tmp_path / "long.csv"))["text"]) == 10**6


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("few.csv", b"id,text\n1,a\n\n2\n3,c\n", "row 3 (line 4) has 1 fields"),
        ("many.csv", b'id,text\n1,"a\nb"\n2,b,c\n', "row 2 (line 4) has 3 fields"),
        ("open.csv", b'id,text\n1,a\n2,"b\n', "after line 2"),
        ("sloppy.tsv", b'id\ttext\n1\t"a" b\n', "after line 1"),
        ("latin.csv", b"id,text\n1,\xe4\n", "cannot be read"),
        ("twice.csv", b"text,text\na,b\n", "`text`"),
        ("wide.csv", "id,text\n1,a\n".encode("utf-16"), "UTF-16"),
        ("semicolons.csv", b"id;text\n1;a\n", "`text` is not in this file"),
    ],
)
def test_a_damaged_table_names_row_and_line(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert told in error_of(tmp_path / name, ["text"]).what


def test_rows_of_a_table_that_are_passed_over_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,a\n2\n3,c\n")
    told: list[UserError] = []
    assert [row["id"] for row in read_rows(tmp_path / "a.csv", trouble=told.append)] == ["1", "3"] and len(told) == 1


def test_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\u0085d\u000be\u000cf\u001cg"
    line = json.dumps({"text": text}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes((line + "\n").encode() * 2 + b"\n \n")
    (tmp_path / "a.json").write_bytes(f"[{line}, {line}]\n".encode())
    for name in ("a.jsonl", "a.json"):
        assert [row["text"] for row in read_rows(tmp_path / name)] == [text, text]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.TXT.gz", "a.txt.zst", "none"])
def test_a_text_has_no_byte_order_mark_and_may_be_compressed(tmp_path: Path, name: str) -> None:
    write_bytes(BOM + b"one\r\ntwo\n")(tmp_path / name)
    assert next(read_rows(tmp_path / name))["text"] == "one\ntwo\n"


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, kind: str) -> None:
    table = pa.table([["a"], ["b"], ["c"]], names=["text", "id", "text"])
    if kind == "parquet":
        pq.write_table(table, tmp_path / "a.parquet")
    else:
        with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
            file.write_table(table)
    assert "`text`" in error_of(tmp_path / f"a.{kind}", ["id"]).what


@pytest.mark.parametrize("row", ['{"text": "a", "text": "b"}', '{"text": "a", "about": {"x": 1, "x": 2}}'])
def test_two_keys_of_one_name_are_refused(tmp_path: Path, row: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' + row)
    assert "line 2" in error_of(tmp_path / "a.jsonl").what and "twice" in str(error_of(tmp_path / "a.jsonl"))


CONTENTS = {
    "gzip": gzip.compress(LINES), "zstd": zstandard.compress(LINES), "zip": b"PK\x03\x04" + bytes(20),
    "PDF": b"%PDF-1.7\n%\xe2", "UTF-16": "Text".encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.arrow", "a.parquet", "none"])
def test_a_name_and_a_content_that_disagree_are_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(CONTENTS[content])
    assert content in error_of(tmp_path / name).what


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv.gz"])
def test_a_parquet_file_of_another_name_is_refused(tmp_path: Path, name: str) -> None:
    write_parquet(tmp_path / name)
    assert "parquet" in error_of(tmp_path / name).what


@pytest.mark.parametrize("content", [LINES, BOM + LINES, b'{"text": "a"}', b'{"text": "a"}\r\n{"text": "b"}'])
def test_rows_of_json_under_a_name_of_text_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.data").write_bytes(content)
    assert "format: jsonl" in error_of(tmp_path / "train.data").remedy
    assert next(read_rows(tmp_path / "train.data", "text"))["text"]


@pytest.mark.parametrize("content", ["{x}\n{y}\n", '{"a": 1}\nThat was JSON.\n', "[1]\n[2]\n", "{"])
def test_texts_that_begin_like_json_are_texts(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.md").write_text(content)
    assert next(read_rows(tmp_path / "a.md"))["text"] == content


@pytest.mark.parametrize(
    "content", [b'{\n "about": {"x": 1}\n}\n', b'[{"text": "a"}, 3]', b'[{"text": "a"}', b"[1, 2]"]
)
def test_json_that_is_no_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert "array of objects" in error_of(tmp_path / "a.json").remedy


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


def files_of(path: str, asked: str = "auto") -> list[Path]:
    return data_files(PathDataset(path=path, format=asked, content=""), None)


def test_files_of_a_folder_and_a_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("d/b.txt", "d/a.txt", "d/deep/c.jsonl", "d/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [p.name for p in files_of("d", "text")] == ["a.txt", "b.txt", "c.jsonl"]
    with pytest.raises(UserError, match="not clear"):
        files_of("d")
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
