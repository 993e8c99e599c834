"""What a path means is one list: links are followed, nothing is left out silently, and every trouble names its file."""

import os
from pathlib import Path

import pytest

from smolmake.errors import UserError
from smolmake.execution.content_hash import content_digest
from smolmake.listing import CIRCLE, HIDDEN, INSTALLED, list_files


def write(place: Path, *names: str) -> None:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)


def names(place: Path, pattern: str = "d") -> list[str]:
    return list_files(pattern, place).names


def error_of(place: Path, pattern: str = "d") -> UserError:
    with pytest.raises(UserError) as caught:
        list_files(pattern, place)
    assert len(str(caught.value).splitlines()) <= 12
    return caught.value


def test_files_stand_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write(tmp_path, "d/b.txt", "d/a/z.txt", "d/a-b/y.txt", "d/a.txt", "d/B.txt")
    assert names(tmp_path) == [
        p.relative_to(tmp_path / "d").as_posix() for p in sorted((tmp_path / "d").rglob("*.txt"))
    ]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("d", ["a.txt", "deep/b.jsonl", "deep/er/c.txt"]),
        ("d/", ["a.txt", "deep/b.jsonl", "deep/er/c.txt"]),
        ("d/**", ["a.txt", "deep/b.jsonl", "deep/er/c.txt"]),
        ("d/a.txt", ["a.txt"]),
        ("d/*", ["a.txt"]),
        ("d/*/*", ["deep/b.jsonl"]),
        ("d/**/*.txt", ["a.txt", "deep/er/c.txt"]),
        ("d/**/er/**/*.txt", ["deep/er/c.txt"]),
        ("d/**/**/c.txt", ["deep/er/c.txt"]),
        ("d/deep/?.json[lx]", ["b.jsonl"]),
        ("d/.hidden.txt", [".hidden.txt"]),
        ("d/.*", [".hidden.txt"]),
        ("d/.git/*", ["config"]),
        ("d/*/__pycache__/*", ["deep/__pycache__/c.pyc"]),
        ("d/*.md", []),
        ("other", []),
        ("other/*.txt", []),
    ],
)
def test_a_folder_a_file_and_globs(tmp_path: Path, pattern: str, found: list[str]) -> None:
    write(tmp_path, "d/a.txt", "d/deep/b.jsonl", "d/deep/er/c.txt", "d/.hidden.txt", "d/.git/config")
    write(tmp_path, "d/deep/__pycache__/c.pyc")
    assert names(tmp_path, pattern) == found


def test_a_name_with_a_bracket_is_a_name(tmp_path: Path) -> None:
    write(tmp_path, "d[1]/a.txt")
    assert names(tmp_path, "d[1]") == names(tmp_path, "d[1]/a.txt") == ["a.txt"]


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    write(tmp_path, "d/a.py", "d/.git/config", "d/x/.cache", "d/__pycache__/a.pyc", "d/node_modules/b.js")
    (tmp_path / "d" / "x" / "again").symlink_to(tmp_path / "d")
    assert list_files("d", tmp_path).passed_over == {
        HIDDEN: [".git", "x/.cache"], INSTALLED: ["__pycache__", "node_modules"], CIRCLE: ["x/again"],
    }  # fmt: skip


def test_a_tree_in_a_folder_of_installed_code_is_read(tmp_path: Path) -> None:
    write(tmp_path, "site-packages/numpy/a.py", "site-packages/numpy/__pycache__/a.pyc")
    assert names(tmp_path, "site-packages/numpy") == names(tmp_path / "site-packages", "numpy/*") == ["a.py"]


def test_links_are_followed_and_their_changes_count(tmp_path: Path) -> None:
    write(tmp_path, "d/a.txt", "far/b.txt", "far/deep/c.txt")
    (tmp_path / "d" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "d" / "single.txt").symlink_to(tmp_path / "far" / "b.txt")
    assert names(tmp_path) == ["a.txt", "link/b.txt", "link/deep/c.txt", "single.txt"]
    assert names(tmp_path, "d/**/c.txt") == ["link/deep/c.txt"]
    before = content_digest("d", tmp_path)
    (tmp_path / "far" / "deep" / "c.txt").write_text("changed")
    after = content_digest("d", tmp_path)
    write(tmp_path, "far/new.txt")
    assert len({before, after, content_digest("d", tmp_path)}) == 3


def test_circles_of_links_end(tmp_path: Path) -> None:
    write(tmp_path, "d/a/x.txt", "d/b/y.txt")
    (tmp_path / "d" / "a" / "b").symlink_to(tmp_path / "d" / "b")
    (tmp_path / "d" / "b" / "a").symlink_to(tmp_path / "d" / "a")
    (tmp_path / "d" / "self").symlink_to(".")
    listing = list_files("d", tmp_path)
    assert listing.names == ["a/b/y.txt", "a/x.txt", "b/a/x.txt", "b/y.txt"]
    assert listing.passed_over == {CIRCLE: ["a/b/a", "b/a/b", "self"]}


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    write(tmp_path, "d/a.txt")
    (tmp_path / "d" / "lost.txt").symlink_to(tmp_path / "gone")
    assert error_of(tmp_path).file.endswith("lost.txt") and error_of(tmp_path, "d/*.txt")
    assert names(tmp_path, "d/a.*") == ["a.txt"]


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, "d/a.txt")
    os.mkfifo(tmp_path / "d" / "pipe")
    assert error_of(tmp_path).file.endswith("pipe")


@pytest.mark.parametrize("name", [b"d/caf\xe9.txt", b"d/caf\xe9/a.txt"])
def test_a_name_that_is_not_utf_8_is_named(tmp_path: Path, name: bytes) -> None:
    place = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118 (bytes)
    os.makedirs(os.path.dirname(place))  # noqa: PTH103, PTH120
    with open(place, "w") as file:  # noqa: PTH123
        file.write("text")
    error = error_of(tmp_path)
    assert r"caf\xe9" in error.file and str(error).encode() and "rename" in error.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, "d/a.txt", "d/closed/b.txt")
    (tmp_path / "d" / "closed").chmod(0)
    assert error_of(tmp_path).file.endswith("closed")
    (tmp_path / "d" / "closed").chmod(0o700)
    (tmp_path / "d" / "a.txt").chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        content_digest("d", tmp_path)
