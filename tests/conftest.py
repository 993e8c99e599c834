"""What all tests share: the tree under test, a light copy of it to change, and threads that leave a core free."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pipeline: runs the real graph in a copy of the tree")


@pytest.fixture(scope="session")
def root() -> Path:
    """The tree under test; nothing may be written into it."""
    return ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what recipes refer to (config/ and workflow/), to be changed at will."""
    place = tmp_path / "tree"
    for name in ("config", "workflow"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place
