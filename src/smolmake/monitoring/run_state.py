"""What the folders of steps say while a run goes on: who computes one, how far its training is, what happened to it.

Files are read from their ends, a few kilobytes each, however long they are. Nothing is written or waited for.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolmake.execution.manifest import MANIFEST

LOCK, LEASE, METRICS, SESSIONS, INCIDENTS = ".lock", "lease.json", "metrics.jsonl", "sessions.jsonl", "incidents.jsonl"
FRESH = 120.0  # seconds after which a lease that nobody has renewed says nothing
END = 64 * 1024  # bytes of a file's end: 100 to 300 lines of metrics
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
    renewed its lease within FRESH seconds.
    """
    lease = _lease(folder / LEASE)
    about = Holder(lease.get("host"), lease.get("job"))
    if _locked(folder / LOCK):
        return about
    elsewhere = lease.get("host") not in (None, socket.gethostname())
    return about if elsewhere and lease["age"] < FRESH and lease.get("state", "running") == "running" else None


def _locked(lock: Path) -> bool:
    """Whether somebody holds it: asked for by a shared lock, which is given back at once."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lease(file: Path) -> dict[str, Any]:
    """A lease with the seconds since it was renewed: its own word, or the file's time."""
    try:
        lease, renewed = json.loads(file.read_text()), file.stat().st_mtime
    except (OSError, ValueError):
        return {}
    if not isinstance(lease, dict):
        return {}
    beat = lease.get("heartbeat")
    return lease | {"age": time.time() - (beat if isinstance(beat, int | float) else renewed)}


@dataclass(frozen=True)
class Training:
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


def training(folder: Path) -> Training | None:
    """What the end of a step's metrics.jsonl says, or None if it has no line yet."""
    lines = list(last_lines(folder / METRICS))
    if not lines or "step" not in lines[-1]:
        return None
    recent, newest = lines[-RECENT:], lines[-1]
    losses = [line["loss"] for line in recent if line.get("loss") is not None]
    return Training(
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


def sessions(folder: Path) -> list[float]:
    """When the trainings of a segment began (seconds since 1970): the first start, and every one after a stop."""
    return [line["time"] for line in last_lines(folder / SESSIONS, size=None) if "time" in line]


def incidents(folder: Path) -> list[dict[str, Any]]:
    """The last incidents of a segment."""
    return list(last_lines(folder / INCIDENTS))


def last_lines(path: Path, size: int | None = END) -> Iterator[dict[str, Any]]:
    """The JSON objects of the last `size` bytes of a file (None: of all), but for lines that are cut."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            start = 0 if size is None else max(0, length - size)
            file.seek(start)
            content = file.read()
    except OSError:
        return
    for text in content.splitlines()[1 if start else 0 :]:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


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
