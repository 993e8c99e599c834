"""Checks of devices that passed within the hour are not repeated: the layouts of a recipe often have the same GPUs.

What passed is noted in .smolmake/checked/ by machine and GPU. No result depends on it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smolmake.execution.lease import machine
from smolmake.files import digest, write_json
from smolmake.preflight.results import CheckResult, gather
from smolmake.train.parallel import ParallelContext

HOUR = 3600.0
CHECKED = Path(".smolmake") / "checked"


@dataclass(frozen=True)
class RecentChecks:
    """What was checked of these processes' devices; `anew`: nothing of it counts. All processes call each method."""

    parallel: ParallelContext
    root: Path
    anew: bool

    def of(
        self, name: str, limits: Any, check: Callable[[], Iterable[CheckResult]], together: bool = False
    ) -> list[CheckResult]:
        """The results of a check with these limits: of the last hour if all devices have passed it, else new ones.

        `together`: what is checked is not each device, but how these work with one another.
        """
        devices = sorted(set(gather(self.parallel, device_id(self.parallel.device))))
        subjects = ["+".join(devices)] if together else devices
        files = [self.root / CHECKED / f"{digest([name, limits, subject])[:16]}.json" for subject in subjects]
        noted = gather(self.parallel, None if self.anew else _passed(files))[0]  # the first process's word
        if noted is not None:
            return [CheckResult(**{**each, "nodes": tuple(each["nodes"])}) for each in noted]
        results = list(check())
        if self.parallel.is_main and results and all(result.passed for result in results):
            for file in files:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, [vars(result) for result in results])
        return results


def _passed(files: list[Path]) -> list[dict[str, Any]] | None:
    """What the oldest of these notes says, if all are there and none is older than an hour."""
    try:
        age, oldest = max((time.time() - file.stat().st_mtime, file) for file in files)
        found: list[dict[str, Any]] = json.loads(oldest.read_text())
    except (OSError, ValueError):
        return None
    when = f", {age / 60:.0f} min ago"
    return [each | {"measured": each["measured"] + when} for each in found] if 0 <= age < HOUR else None


def device_id(device: torch.device) -> str:
    """A device as no other is called: its machine, since when that runs, and the GPU's UUID."""
    gpu = torch.cuda.get_device_properties(device).uuid if device.type == "cuda" else "cpu"
    return f"{machine()}/{gpu}"
