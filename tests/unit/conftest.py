"""What several unit tests share."""

from pathlib import Path

import pytest
from toy_files import COLUMNS, SEED

from smolmake.data.toy import write_toy_files


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's files, as the pipeline writes them."""
    out = tmp_path_factory.mktemp("toy")
    counts = write_toy_files(out, SEED)
    assert {name for name in counts if "/" not in name} == set(COLUMNS)
    return out
