"""Every file of a dataset is read in its format or passed over for a reason that is told."""

from pathlib import Path

import pytest

from smolmake.errors import UserError
from smolmake.recipe.formats import (
    BESIDE_ROWS,
    DESCRIBES,
    compression,
    count_formats,
    file_format,
    list_data,
    without_ending,
)


@pytest.mark.parametrize(
    ("name", "found", "packed", "stem"),
    [
        ("a.jsonl", "jsonl", None, "a"),
        ("A.B.JSONL.GZ", "jsonl", "gzip", "A.B"),
        ("a.jsonlines.zst", "jsonl", "zstd", "a"),
        ("train.json", "json", None, "train"),
        ("a.tar.json.Zst", "json", "zstd", "a.tar"),
        ("a.Csv", "csv", None, "a"),
        ("a.tab", "tsv", None, "a"),
        ("a.pq", "parquet", None, "a"),
        ("a.parquet.1", "text", None, "a.parquet.1"),
        ("a.txt.gz", "text", "gzip", "a.txt"),
        ("jsonl", "text", None, "jsonl"),
        ("notes", "text", None, "notes"),
    ],
)
def test_a_name_says_the_format(name: str, found: str, packed: str | None, stem: str) -> None:
    assert (file_format(name), compression(Path("d.csv") / name), without_ending(Path(name))) == (found, packed, stem)
    assert file_format(name, "code") == "code"


def write(place: Path, *names: str) -> None:
    for name in names:
        (place / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "d" / name).write_text("x")


def test_what_stands_beside_rows_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "train.JSON", "b/c.csv", "dataset_infos.json", "state.json", ".gitattributes")
    write(tmp_path, "README.md", "LICENSE-MIT", "train.JSON.md5", "b/load.py")
    listing = list_data("d", "auto", tmp_path)
    assert listing.names == ["b/c.csv", "train.JSON"]
    assert count_formats(listing, "auto") == {"csv": 1, "json": 1}
    assert listing.passed_over == {
        "hidden": [".gitattributes"], DESCRIBES: ["dataset_infos.json", "state.json"],
        BESIDE_ROWS: ["LICENSE-MIT", "README.md", "b/load.py", "train.JSON.md5"],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["notes.txt", "b/paper.md", "notes", "train.jsonl.1"])
def test_other_texts_beside_rows_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "a.csv", name)
    with pytest.raises(UserError, match="it is not clear") as caught:
        list_data("d", "auto", tmp_path)
    assert caught.value.file == tmp_path / "d" / name and "glob" in caught.value.remedy
    assert list_data("d/*.csv", "auto", tmp_path).names == ["a.csv"]
    assert len(list_data("d", "text", tmp_path).names) == 2


def test_a_folder_of_texts_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path, "README.md", "a.txt", "b/notes", "dataset_infos.json")
    assert list_data("d", "auto", tmp_path).names == ["README.md", "a.txt", "b/notes"]
    for asked in ("text", "code"):
        assert len(list_data("d", asked, tmp_path).names) == 4


def test_what_is_named_is_read(tmp_path: Path) -> None:
    write(tmp_path, "README.md", "a.jsonl", "state.json")
    for name in ("README.md", "state.json"):
        assert list_data(f"d/{name}", "auto", tmp_path).names == [name]
    assert list_data("d/*.md", "auto", tmp_path).names == ["README.md"]
