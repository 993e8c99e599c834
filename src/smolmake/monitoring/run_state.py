"""What the folders of steps say while a run goes on: who computes one, how far its training is, what happened to it.

Files are read from their ends, a few kilobytes each, however long they are. Nothing is written or waited for.
"""

from __future__ import annotations

import math
import os
import socket
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolmake.execution.lease import HEARTBEAT, LEASE, LOCK, MISSED, read_lease
from smolmake.execution.manifest import MANIFEST
from smolmake.files import is_locked
from smolmake.monitoring.metrics import METRICS, read_metrics

END = 64 * 1024  # bytes of a file's end: 100 to 300 lines
RECENT = 50  # lines of metrics that "now" is the median of


@dataclass(frozen=True)
class Holder:
    """Who computes a step, as far as its lease says."""

    host: str | None = None
    job: str | None = None


def holder(folder: Path) -> Holder | None:
    """Who computes the step of a folder now, or None: also once it is finished."""
    return None if not folder.is_dir() or (folder / MANIFEST).exists() else owner(folder)


def owner(folder: Path) -> Holder | None:
    """Who holds a folder now, finished or not, or None.

    A process holds the folder's lock or, where the file system does not carry locks between nodes, another host has
    renewed its lease within the time of the heartbeats that it may miss.
    """
    lease = read_lease(folder) or {}
    holder = Holder(lease.get("host"), lease.get("job"))
    if is_locked(folder / LOCK):
        return holder
    elsewhere = lease.get("state") == "running" and lease.get("host") != socket.gethostname()
    return holder if elsewhere and _age(folder / LEASE) < MISSED * HEARTBEAT else None


def _age(file: Path) -> float:
    """Seconds since a file was written or renewed."""
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return math.inf


@dataclass(frozen=True)
class TrainingState:
    """How far a training is. `step` counts done steps; rates are medians of the last RECENT steps.

    `kept_seconds` is the time of the steps that metrics.jsonl has now, `last` when its last line was written (seconds
    since 1970).
    """

    step: int
    loss: float | None
    tokens_per_second: float | None
    mfu: float | None
    seconds_per_step: float | None
    kept_seconds: float | None
    last: float | None


def training(folder: Path) -> TrainingState | None:
    """What the end of a step's metrics.jsonl says, or None if it has no line yet."""
    lines = read_metrics(folder / METRICS, last=END)
    if not lines or "step" not in lines[-1]:
        return None
    recent, newest = lines[-RECENT:], lines[-1]
    losses = [line["loss"] for line in recent if line.get("loss") is not None]
    return TrainingState(
        step=int(newest["step"]) + 1,
        loss=losses[-1] if losses else None,
        tokens_per_second=_median(recent, "tokens_per_second"),
        mfu=_median(recent, "mfu"),
        seconds_per_step=_median(recent, "seconds"),
        kept_seconds=newest.get("kept_seconds"),
        last=newest.get("time"),
    )


def _median(lines: list[dict[str, Any]], key: str) -> float | None:
    values = [line[key] for line in lines if line.get(key) is not None]
    return statistics.median(values) if values else None


def disk_use(place: Path, seconds: float = 1.0) -> tuple[int, bool]:
    """Bytes of the files under a folder without what links lead to, and whether the time was enough to see all."""
    limit, used, waiting = time.monotonic() + seconds, 0, [place]
    while waiting:
        if time.monotonic() > limit:
            return used, False
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        used += entry.stat(follow_symlinks=False).st_size
        except OSError:  # removed meanwhile
            continue
    return used, True
