"""What no recipe reaches is listed with its size, and deleted only when told to."""

import fcntl
import sys
from pathlib import Path

import pytest
from recipes import SMALL, write_recipe

from smolmake.errors import UserError
from smolmake.identity.manifest import MANIFEST
from smolmake.plan import gc
from smolmake.plan.graph import plan_recipe


@pytest.fixture
def place(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with one recipe, one of its results, and two results that nothing reaches."""
    for file in (tree / "config" / "recipes").glob("*.yaml"):
        file.unlink()
    path = write_recipe(tree, SMALL)
    step = plan_recipe(str(path), tree).steps.of_kind("shards")[0]
    for key, size in ((step.key, 10), ("shards/notes-0123456789", 2_000_000), ("segment/stage1-0-10-0123456789", 500)):
        folder = tree / "results" / key
        folder.mkdir(parents=True)
        (folder / "tokens.bin").write_bytes(b"1" * size)
        (folder / MANIFEST).write_text("{}")
    monkeypatch.chdir(tree)
    return tree


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gc", *arguments])
    gc.main()


def folders(place: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in (place / "results").glob("*/*")}


def test_it_lists_with_sizes_and_deletes_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = folders(place)
    run(monkeypatch)
    said = capsys.readouterr().out
    assert "2.0 MB  results/shards/notes-0123456789" in said and "in 2 results: reached by no recipe" in said
    assert folders(place) == before


def test_told_to_it_deletes_what_is_listed_and_no_more(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "--delete")
    assert len(folders(place)) == 1 and not any(name.endswith("0123456789") for name in folders(place))


def test_another_recipe_keeps_what_it_reaches(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SMALL.replace("vocab_size: 512", "vocab_size: 600").replace("name: small", "name: other")
    path = write_recipe(place, other, "other")
    step = plan_recipe(str(path), place).steps.of_kind("shards")[0]
    (place / "results" / step.key).mkdir(parents=True)
    run(monkeypatch, "--delete")
    assert step.key in folders(place)


def test_what_a_job_holds_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = place / "results" / "segment" / "stage1-0-10-0123456789"
    with (held / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(monkeypatch, "--delete")
    assert held.exists() and not (place / "results" / "shards" / "notes-0123456789").exists()


def test_with_a_recipe_that_cannot_be_read_nothing_is_deleted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recipe(place, SMALL.replace("sources:", "source:"), "broken")
    with pytest.raises(UserError, match="nobody knows what it reaches"):
        run(monkeypatch, "--delete")
    assert len(folders(place)) == 3
