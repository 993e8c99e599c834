"""What happened to a segment besides its steps, with the time: events.jsonl; and starts.jsonl, when it was started.

Both are only ever added to.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from smolmake.files import json_lines
from smolmake.monitoring.alerts import AlertSender

EVENTS, STARTS = "events.jsonl", "starts.jsonl"
# The others need nobody; of skipped steps the run log tells.
ALERTED = ("dropped", "throughput_drop", "saving", "upload", "stopped")


class Events:
    """Appends to a segment's events, from any thread, and says them on the log; one that cannot be written is
    only said. Those that somebody should look at are posted as alerts too."""

    def __init__(self, folder: Path, active: bool = True, alerts: AlertSender | None = None) -> None:
        self.path, self.active, self.alerts = folder / EVENTS, active, alerts

    def add(self, kind: str, step: int, what: str, **more: Any) -> None:
        """`kind` is one word (resumed, stopped, skipped, dropped, throughput_drop, saving, upload, tracker)."""
        if not self.active:
            return
        print(f"step {step}: {what}", file=sys.stderr, flush=True)
        if self.alerts is not None and kind in ALERTED:
            self.alerts.post(kind, f"step {step}: {what}", step=step)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        _append(self.path, {"time": now, "kind": kind, "step": step, "what": what} | more)


def read_events(folder: Path, last: int | None = None) -> list[dict[str, Any]]:
    """The whole lines of a step's events, or of the file's last so many bytes."""
    return list(json_lines(folder / EVENTS, last))


def note_start(folder: Path, step: int) -> None:
    """A line in starts.jsonl: what goodput begins to count from, and how often a training was started."""
    now = round(time.time(), 3)
    _append(folder / STARTS, {"time": now, "step": step, "host": socket.gethostname(), "pid": os.getpid()})


def read_starts(folder: Path) -> list[float]:
    """When the trainings of a segment began (seconds since 1970): the first start, and every one after a stop."""
    return [line["time"] for line in json_lines(folder / STARTS)]


def _append(path: Path, values: dict[str, Any]) -> None:
    try:
        with path.open("a") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:
        print(f"cannot write {path.name}: {error.strerror}", file=sys.stderr)
