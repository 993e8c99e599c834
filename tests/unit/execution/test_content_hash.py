"""The content of a user's files is part of an identity; their times and their place on disk are not."""

import os
import shutil
from pathlib import Path

import pytest
from helpers.recipes import changed, load

from smolmake.execution.content_hash import HASHES, content_digest
from smolmake.graph.build import build_steps


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    for name in ("a.txt", "b.txt", "deep/c.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"The text of {name}.")
    return folder


def test_touch_and_copy_change_nothing(texts: Path, tmp_path: Path) -> None:
    before = content_digest("texts", tmp_path)
    for path in texts.rglob("*.txt"):
        os.utime(path, (1, 1))
    assert content_digest("texts", tmp_path) == before
    copy = tmp_path / "elsewhere"
    shutil.copytree(texts, copy / "texts")
    assert content_digest("texts", copy) == before
    shutil.rmtree(tmp_path / HASHES)
    assert content_digest("texts", tmp_path) == before


@pytest.mark.parametrize("name", ["a.txt", "b.txt", "deep/c.txt"])
def test_one_byte_changes_it(texts: Path, tmp_path: Path, name: str) -> None:
    before = content_digest("texts", tmp_path)
    content = (texts / name).read_bytes()
    (texts / name).write_bytes(content[:-1] + b"!")
    changed = content_digest("texts", tmp_path)
    assert changed != before
    (texts / name).write_bytes(content)
    assert content_digest("texts", tmp_path) == before


def test_a_new_a_lost_and_a_renamed_file_change_it(texts: Path, tmp_path: Path) -> None:
    digests = {content_digest("texts", tmp_path)}
    (texts / "d.txt").write_text("new")
    digests.add(content_digest("texts", tmp_path))
    (texts / "d.txt").rename(texts / "e.txt")
    digests.add(content_digest("texts", tmp_path))
    (texts / "b.txt").unlink()
    digests.add(content_digest("texts", tmp_path))
    assert len(digests) == 4


def test_files_of_one_name_in_two_folders_of_a_glob_both_count(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "part.txt").write_text(folder)
    digests = {content_digest("data/*/part.txt", tmp_path)}
    for folder in ("one", "two"):
        (tmp_path / "data" / folder / "part.txt").write_text("changed")
        digests.add(content_digest("data/*/part.txt", tmp_path))
    assert len(digests) == 3


def test_a_damaged_cache_is_only_a_lost_cache(texts: Path, tmp_path: Path) -> None:
    before = content_digest("texts", tmp_path)
    for rubbish in ("", "{", "[]", '{"a.txt": 1}'):
        next((tmp_path / HASHES).iterdir()).write_text(rubbish)
        assert content_digest("texts", tmp_path) == before


def test_ids_of_a_recipe_follow_its_texts(tree: Path) -> None:
    (tree / "texts").mkdir()
    (tree / "texts" / "a.txt").write_text("one")
    text = changed("{path: notes.txt}", "{path: texts}")
    before = set(build_steps(load(tree, text), tree).all)
    os.utime(tree / "texts" / "a.txt", (1, 1))
    assert set(build_steps(load(tree, text), tree).all) == before
    copied = tree.parent / "copied"
    shutil.copytree(tree, copied)
    assert set(build_steps(load(copied, text), copied).all) == before
    (tree / "texts" / "a.txt").write_text("two")
    new = {key.rpartition("-")[0] for key in set(build_steps(load(tree, text), tree).all) - before}
    assert {"documents/notes", "shards/notes", "mixture/stage1", "segment/stage1-0-10"} <= new
    assert not {"documents/code"} & new
