"""The content of a user's files is part of an identity; their times and their place on disk are not."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.recipes import changed, load

from smolmake.execution import content_hash
from smolmake.execution.content_hash import HASHES, content_digest
from smolmake.files import SETTLED, file_digest
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


def settle() -> None:
    """Let the times of what was written just now lie so far back that they are believed."""
    time.sleep(2 * SETTLED / 1e9)


def restored(file: Path, change: Callable[[Path], object]) -> bool:
    """Change a file and set its time back; whether size and time are as before then."""
    before = file.stat()
    change(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def other_byte(file: Path) -> None:
    with file.open("r+b") as content:
        content.write(b"X")


def renamed_over(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"X" * file.stat().st_size)
    other.rename(file)


def link_elsewhere(file: Path) -> None:
    other = file.parents[1] / "elsewhere.txt"
    other.write_bytes(b"X" * file.stat().st_size)
    file.unlink()
    file.symlink_to(other)


def file_for_link(file: Path) -> None:
    size = file.stat().st_size
    file.unlink()
    file.write_bytes(b"Y" * size)


@pytest.mark.parametrize("change", [other_byte, renamed_over, link_elsewhere, file_for_link])
@pytest.mark.parametrize("pattern", ["texts", "texts/*.txt", "texts/a.txt"])
def test_a_change_that_leaves_size_and_time_is_seen(texts: Path, tmp_path: Path, change: Any, pattern: str) -> None:
    if change is file_for_link:
        link_elsewhere(texts / "a.txt")
    before = content_digest(pattern, tmp_path)
    settle()
    assert content_digest(pattern, tmp_path) == before and content_digest(pattern, tmp_path) == before
    assert restored(texts / "a.txt", change)
    assert content_digest(pattern, tmp_path) != before


def test_nothing_is_hashed_twice_once_its_times_can_be_believed(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(content_hash, "file_digest", lambda file: hashed.append(file.name) or file_digest(file))
    content_digest("texts", tmp_path)
    content_digest("texts", tmp_path)
    assert len(hashed) == 6  # what was written just now may be written to again without another time
    settle()
    content_digest("texts", tmp_path)
    del hashed[:]
    content_digest("texts", tmp_path)
    assert hashed == []
    (texts / "b.txt").touch()
    content_digest("texts", tmp_path)
    assert hashed == ["b.txt"]
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".json") == [
        "a.txt", "b.txt", "c.txt"
    ]  # fmt: skip


def test_where_the_system_gives_no_time_of_its_own_all_is_hashed_each_time(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as sshfs, which shows the mtime in its place; inodes stay as they are where a file is written to."""

    def as_sshfs(status: os.stat_result) -> list[int]:
        return [status.st_size, status.st_mtime_ns, status.st_mtime_ns, status.st_ino]

    monkeypatch.setattr(content_hash, "file_stamp", as_sshfs)
    settle()
    before = content_digest("texts", tmp_path)
    assert content_digest("texts", tmp_path) == before and not list((tmp_path / HASHES).iterdir())
    assert restored(texts / "a.txt", other_byte)
    assert content_digest("texts", tmp_path) != before


def test_a_damaged_cache_is_only_a_lost_cache(texts: Path, tmp_path: Path) -> None:
    settle()
    before = content_digest("texts", tmp_path)
    (cache,) = (tmp_path / HASHES).iterdir()
    for rubbish in ("", "{", "[]", '{"x": 1}', '{"a.txt": 1}', "\0"):
        cache.write_text(rubbish)
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
