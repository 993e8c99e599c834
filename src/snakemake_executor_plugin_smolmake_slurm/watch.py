"""Whether a running job's processes still live, and how far its step has come; all read from the step's folder."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

from smolmake.errors import CANNOT_WRITE
from smolmake.execution.lease import HEARTBEATS, SilenceWatch, read_lease

SRUN_ERROR = re.compile(r"srun: error: ([\w.-]+): tasks? [\d,\- ]+: (?!Terminated)")


class Heartbeats:
    """Watches the heartbeats of one start of a job, by this process's own clock.

    A rank that has never given a heartbeat is not counted: starting up may take any time. What an earlier start of
    the same job left is removed when it was seen to be `requeued`.
    """

    def __init__(self, folder: Path, job: str, limit: float, requeued: bool) -> None:
        self.place, self.watch = folder / HEARTBEATS / job, SilenceWatch(limit)
        if requeued:
            shutil.rmtree(self.place, ignore_errors=True)  # a process that lives makes its file again

    def silent(self) -> list[str]:
        """The ranks whose heartbeat has stopped."""
        files = sorted(self.place.glob("*")) if self.place.is_dir() else []
        return [file.name for file in files if self.watch.unchanged(file)]


def folder_of(job: Any) -> Path:
    """The folder of the step that a job computes: where its manifest goes."""
    return Path(str(next(iter(job.output)))).parent


def is_made(job: Any, since: float = 0.0) -> bool:
    """Whether all that a job is to make is there and not older than a moment, in seconds of the epoch."""
    with contextlib.suppress(OSError):
        return bool(job.output) and all(Path(str(file)).stat().st_mtime > since for file in job.output)
    return False


def progress(folder: Path) -> tuple[str, int]:
    """How far a step has come: its newest recovery checkpoint, and the number of its parts that are done."""
    recovery = max((place.name for place in (folder / "recovery").glob("[sc]*-*")), key=_number, default="")
    return recovery, sum(1 for _ in (folder / "parts").glob("*/part.json"))


def _number(name: str) -> int:
    digits = re.sub(r"\D", "", name)
    return int(digits) if digits else -1


def refused(folder: Path) -> bool:
    """Whether the step's own program ended with a mistake of the user: no node is to blame, no other one would help."""
    lease = read_lease(folder)
    return lease is not None and lease.get("state") == "refused"


def out_of_storage(logs: list[Path]) -> bool:
    """Whether a job's own program ended because it could not write: the storage, not a node, is at fault."""
    for log in logs:
        with contextlib.suppress(OSError):
            if f"error: {CANNOT_WRITE}: " in log.read_text(errors="replace"):
                return True
    return False


def failed_nodes(logs: list[Path]) -> set[str]:
    """The node that failed first, as srun names it in the logs of a job on several nodes."""
    for log in logs:
        try:
            found = SRUN_ERROR.search(log.read_text(errors="replace"))
        except OSError:
            continue
        if found:
            return {found[1]}
    return set()
