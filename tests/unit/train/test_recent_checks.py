"""What passed on a device within the hour is not checked again; anything else is."""

import os
import time
from pathlib import Path

import pytest
import torch

from smolmake.preflight.recent import CHECKED, HOUR, RecentChecks
from smolmake.preflight.results import CheckResult
from smolmake.train.parallel import ParallelContext

ALONE = ParallelContext(torch.device("cpu"))


class Counted:
    """A check that counts how often it is done."""

    def __init__(self, passed: bool = True) -> None:
        self.passed, self.done = passed, 0

    def __call__(self) -> list[CheckResult]:
        self.done += 1
        return [CheckResult("speed", "3 TFLOP/s", "2 TFLOP/s", self.passed, () if self.passed else ("here",))]


def asked(root: Path, check: Counted, limits: float = 1.0, anew: bool = False) -> str:
    (result,) = RecentChecks(ALONE, root, anew).of("burn-in", limits, check)
    return result.measured


def test_what_passed_within_the_hour_is_told_with_its_age(tmp_path: Path) -> None:
    check = Counted()
    assert asked(tmp_path, check) == "3 TFLOP/s"
    (note,) = (tmp_path / CHECKED).iterdir()
    before = time.time() - HOUR / 2
    os.utime(note, (before, before))
    assert asked(tmp_path, check) == "3 TFLOP/s, 30 min ago" and check.done == 1


@pytest.mark.parametrize("why", ["an hour has gone", "other limits", "by force", "another machine", "a damaged note"])
def test_what_may_be_otherwise_is_checked_again(tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = Counted()
    asked(tmp_path, check)
    (note,) = (tmp_path / CHECKED).iterdir()
    if why == "an hour has gone":
        os.utime(note, (time.time() - HOUR - 1,) * 2)
    elif why == "another machine":
        monkeypatch.setattr("smolmake.preflight.recent.machine", lambda: "elsewhere")
    elif why == "a damaged note":
        note.write_text("[{")
    assert asked(tmp_path, check, 2.0 if why == "other limits" else 1.0, why == "by force") == "3 TFLOP/s"
    assert check.done == 2


def test_what_failed_is_checked_again(tmp_path: Path) -> None:
    check = Counted(passed=False)
    assert asked(tmp_path, check) == asked(tmp_path, check) and check.done == 2
