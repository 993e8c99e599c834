"""What several unit tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.toy_files import COLUMNS, SEED
from helpers.training import make_artefacts

from generate import write_files


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's files, as the pipeline writes them."""
    out = tmp_path_factory.mktemp("toy")
    counts = write_files(out, SEED)
    assert {name for name in counts if "/" not in name} == set(COLUMNS)
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loop")
    make_artefacts(folder)
    return folder


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
