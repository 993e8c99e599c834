"""An edit that leaves a module's size and modification time as they were is run all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smolmake.execution.bytecode import check_by_content


@pytest.fixture
def module(tmp_path: Path) -> Path:
    file = tmp_path / "package" / "constants.py"
    file.parent.mkdir()
    file.write_text("RATE = 0.5\n")
    os.utime(file, (1e9, 1e9))
    return file


def run(module: Path) -> str:
    """What a new process finds in the module."""
    program = "from package import constants; print(constants.RATE)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=module.parents[1], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def edit(module: Path, rate: str) -> None:
    before = module.stat()
    module.write_text(f"RATE = {rate}\n")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert module.stat().st_size == before.st_size and module.stat().st_mtime_ns == before.st_mtime_ns


def test_the_new_code_runs(module: Path) -> None:
    assert run(module) == "0.5"
    edit(module, "0.6")
    assert run(module) == "0.5"  # what Python does by itself
    check_by_content([module])
    assert run(module) == "0.6"


def test_once_marked_it_stays_so(module: Path) -> None:
    check_by_content([module])
    for rate in ("0.5", "0.6", "0.7"):
        edit(module, rate)
        assert run(module) == rate
    (compiled,) = (module.parent / "__pycache__").iterdir()
    before = compiled.stat().st_mtime_ns
    assert run(module) == "0.7"
    check_by_content([module])
    assert compiled.stat().st_mtime_ns == before  # nothing was compiled again


def test_what_another_python_has_compiled_is_removed(module: Path) -> None:
    other = module.parent / "__pycache__" / "constants.cpython-399.pyc"
    other.parent.mkdir()
    other.write_bytes(bytes(16))
    check_by_content([module])
    assert not other.exists() and run(module) == "0.5"


def test_a_module_that_cannot_be_compiled_is_left_to_whoever_imports_it(module: Path) -> None:
    module.write_text("RATE =\n")
    check_by_content([module, module.with_name("gone.py")])
