"""Finished runs of the real graph, made once for all tests of the pipeline."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from workflow_runs import MINI, SMALL, clone, copy_tree, succeed, write_notes


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A tree with a finished run, made by the first of pytest's processes that asks for it; the others wait."""
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            beside = place.with_suffix(".making")
            make(copy_tree(beside))
            beside.rename(place)
    return place


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in which the mini recipe has run from raw text to report. Tests that change it work on a clone."""

    def make(tree: Path) -> None:
        succeed(tree, recipe=MINI)

    return made_once(tmp_path_factory, "mini", make)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in which the small recipe has run on a user's texts up to its only segment."""

    def make(tree: Path) -> None:
        write_notes(tree, 300)
        succeed(tree, "pretrain", recipe=SMALL)

    return made_once(tmp_path_factory, "small", make)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A tree without results, with few texts for the small recipe."""
    tree = copy_tree(tmp_path / "tree")
    write_notes(tree, 40)
    return tree


@pytest.fixture
def small_clone(small: Path, tmp_path: Path) -> Path:
    return clone(small, tmp_path / "clone")
