"""Data that is not what the recipe says of it is found in the plan, before anything runs."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from helpers.recipes import SMALL, changed, write_recipe

from smolmake.errors import UserError
from smolmake.planning.checks import check_plan
from smolmake.recipe.load import load_recipe

ROWS = [{"body": "a text", "lang": "sco", "score": 1.5}] * 3
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CHAT = "loss: all, chat_template: chatml.jinja, learning_rate: 1e-3, global_batch_size: 4, max_length: 64"
APO = "apo: {learning_rate: 1e-4, global_batch_size: 4, max_length: 64, data: {pairs: {path: rows}}}\n"
SFT = f"sft: {{{CHAT}, data: {{chats: {{path: rows}}}}}}\n"


def plan(tree: Path, text: str) -> None:
    path = write_recipe(tree, text)
    check_plan(load_recipe(str(path), tree), path, tree)


def refused(tree: Path, text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        plan(tree, text)
    assert caught.value.file and caught.value.remedy and len(str(caught.value).splitlines()) <= 8
    return caught.value


def write(tree: Path, name: str) -> None:
    (tree / "rows").mkdir(exist_ok=True)
    path = tree / "rows" / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith(".arrow"):
        table = pa.Table.from_pylist(ROWS)
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    elif "sv" in name:
        delimiter = "," if ".csv" in name else "\t"
        lines = [delimiter.join(map(str, row)) for row in (ROWS[0], *(row.values() for row in ROWS))]
        path.write_bytes({".gz": gzip.compress}.get(path.suffix, bytes)("\n".join(lines).encode()))
    else:
        path.write_bytes({".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)(LINES))


def source(keys: str) -> str:
    return changed("{path: notes.txt}", f"{{path: rows{', ' if keys else ''}{keys}}}")


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.arrow", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.JSON", "a.csv", "a.tsv.gz"]
)
def test_the_text_column(tree: Path, name: str) -> None:
    write(tree, name)
    plan(tree, source("text: body, at_least: {score: 1}, where: {lang: [sco]}"))
    error = refused(tree, source("text: boddy"))
    assert (error.key, error.value) == ("sources.notes.text", "boddy") and "did you mean `body`?" in error.remedy
    assert ". Name the column" in refused(tree, source("text: zzz")).remedy


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("template: '{titel}: {body}'", "template"),
        ("text: body, where: {language: [en]}", "where"),
        ("text: body, at_least: {quality: 1}", "at_least"),
        ("text: body, at_most: {quality: 1}, on_error: skip", "at_most"),
    ],
)
def test_every_other_column_that_a_source_needs(tree: Path, keys: str, key: str) -> None:
    write(tree, "a.parquet")
    error = refused(tree, source(keys))
    assert error.key == f"sources.notes.{key}" and "text: COLUMN" not in error.remedy


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 and no footer"),
        ("a.arrow", b"nothing of Arrow"),
        ("a.jsonl", b'{"text": "cut\n'),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:15]),
        ("a.jsonl.zst", b"not compressed"),
        ("a.txt", "Ärger".encode("latin-1")),
        ("a.bin", b"\x7fELF\x00\x00"),
    ],
)
def test_a_damaged_file(tree: Path, name: str, content: bytes) -> None:
    (tree / "rows").mkdir()
    (tree / "rows" / name).write_bytes(content)
    error = refused(tree, source(""))
    assert error.key == "sources.notes" and "on_error: skip" in error.remedy and error.file == tree / "rows" / name
    plan(tree, source("on_error: skip"))


def test_the_first_file_of_every_ending_is_looked_at(tree: Path) -> None:
    (tree / "rows").mkdir()
    for name in ("a.txt", "b.txt", "c.TXT"):
        (tree / "rows" / name).write_text("a text")
    plan(tree, source(""))
    (tree / "rows" / "d.dat").write_bytes(LINES)
    assert refused(tree, source("")).file == tree / "rows" / "d.dat"
    (tree / "rows" / "d.dat").write_bytes(b"%PDF-1.4")
    assert "PDF" in refused(tree, source("")).what
    (tree / "rows" / "d.dat").unlink()
    write(tree, "e.csv")
    assert "not clear" in refused(tree, source("text: body")).what


def test_a_folder_with_nothing_to_read_says_why(tree: Path) -> None:
    (tree / "rows").mkdir()
    (tree / "rows" / "dataset_infos.json").write_text("{}")
    (tree / "rows" / ".hidden").write_text("text")
    told = refused(tree, source("")).what
    assert "dataset_infos.json is passed over: describes the data" in told and ".hidden is passed over: hidden" in told


def test_questions_of_one_name_are_refused(tree: Path) -> None:
    """Before anything runs: one of the two would not be searched for."""
    write(tree, "exam.law.jsonl")
    asked = "evaluation: {tasks: own, data: {path: rows}}\n"
    (tree / "own").mkdir()
    (tree / "own" / "exam.yaml").write_text("{task: exam}\n")
    plan(tree, source("text: body") + asked)
    write(tree, "exam.law.parquet")
    assert refused(tree, source("text: body") + asked).key == "evaluation.data"


def test_a_text_that_is_cut_within_a_letter_is_whole(tree: Path) -> None:
    (tree / "rows").mkdir()
    (tree / "rows" / "a.txt").write_text("a" + "ä" * 2**16)
    (tree / "rows" / "0.txt").touch()  # an empty file says nothing
    plan(tree, source(""))


@pytest.mark.parametrize(
    ("section", "key", "column"),
    [
        (SFT, "sft.data.chats", "messages"),
        (SFT.replace("sft", "mid_training"), "mid_training.data.chats", "messages"),
        (SFT.replace("path: rows", "path: good") + APO, "apo.data.pairs", "chosen"),
        (
            SFT.replace("path: rows", "path: good") + "preferences: {prompts: {path: rows}, weak: stage1}\n",
            "preferences.prompts",
            "prompt",
        ),
    ],
)
@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.zst"])
def test_the_columns_of_post_training(tree: Path, section: str, key: str, column: str, name: str) -> None:
    write(tree, name)
    row: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}
    (tree / "good").mkdir()
    (tree / "good" / "a.jsonl").write_text(json.dumps(row))
    error = refused(tree, SMALL + section)
    assert (error.key, error.value) == (key, column)
    assert "`body`" in error.remedy and f"`{column}`" in error.remedy and "text: COLUMN" not in error.remedy
    assert "on_error" not in error.remedy
