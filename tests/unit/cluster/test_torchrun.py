"""What a job's log ends with when a process of torchrun fails: what the process said, and no trace of torchrun's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.timeouts import WAIT
from helpers.training import ROOT

SCRIPT = """
import os, signal, sys, time
from smolmake.errors import UserError, run_as_program

def main():
    rank, case = int(os.environ["RANK"]), sys.argv[1]
    if case == "all" or (case == "last" and rank == 1):
        raise UserError("this does not divide", key="runtime.layouts", value=3, remedy="take two")
    if case == "bug" and rank == 1:
        {}["missing"]
    if case == "killed" and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if case == "stopped":
        sys.exit(143)
    time.sleep(60)

run_as_program(main)
"""


@pytest.mark.parametrize(
    ("case", "code", "said"),
    [
        ("all", 1, "error: this does not divide\n  key     runtime.layouts\n  value   3\n  remedy  take two\n"),
        ("last", 1, "error: this does not divide\n  key     runtime.layouts\n  value   3\n  remedy  take two\n"),
        ("killed", 137, "error: process 1 of 2 was ended by SIGKILL\n"),
        ("stopped", 143, ""),
    ],
)
def test_a_failure_is_told_once(tmp_path: Path, case: str, code: int, said: str) -> None:
    done = launch(tmp_path, case)
    assert (done.returncode, done.stderr) == (code, said)


def test_a_process_with_a_bug_shows_its_own_trace_alone(tmp_path: Path) -> None:
    done = launch(tmp_path, "bug")
    assert done.returncode == 1 and done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("KeyError: 'missing'\nerror: process 1 of 2 ended with exit code 1\n"), done.stderr


def launch(place: Path, case: str) -> "subprocess.CompletedProcess[str]":
    (place / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-m", "smolmake.cluster.torchrun", "2", "script.py", case],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=WAIT, check=False,
    )  # fmt: skip
