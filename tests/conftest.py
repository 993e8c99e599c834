"""What all tests share: the tree under test, light copies of it to change, finished runs, and threads that leave a core
free."""

import fcntl
import os
import shutil
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.workflow_runs import MINI, SMALL, clone, copy_tree, succeed, write_notes

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Clean up when ended by a limit of time, as when ended by the keyboard."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", returncode=143))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of packages that clash with the others to the environment that has them (`make extras-test`)."""
    left = [item for item in items if any(find_spec(mark.args[0]) is None for mark in item.iter_markers("needs"))]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def root() -> Path:
    """The tree under test; nothing may be written into it."""
    return ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what recipes refer to (config/, examples/ and workflow/), to be changed at will."""
    place = tmp_path / "tree"
    for name in ("config", "examples", "workflow"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


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
