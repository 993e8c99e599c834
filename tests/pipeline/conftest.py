"""Finished runs of the real graph, made once for all tests of the pipeline."""

from pathlib import Path

import pytest
from workflow_runs import MINI, SMALL, clone, copy_tree, succeed, write_notes


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in which the mini recipe has run from raw text to report. Tests that change it work on a clone."""
    tree = copy_tree(tmp_path_factory.mktemp("mini"))
    succeed(tree, recipe=MINI)
    return tree


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in which the small recipe has run on a user's texts up to its only segment."""
    tree = copy_tree(tmp_path_factory.mktemp("small"))
    write_notes(tree, 300)
    succeed(tree, "pretrain", recipe=SMALL)
    return tree


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A tree without results, with few texts for the small recipe."""
    tree = copy_tree(tmp_path / "tree")
    write_notes(tree, 40)
    return tree


@pytest.fixture
def small_clone(small: Path, tmp_path: Path) -> Path:
    return clone(small, tmp_path / "clone")
