"""incidents.jsonl: what happened to a segment besides its steps, with the time; only ever added to."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from smolmake.monitoring.alerts import Alerts

FILE = "incidents.jsonl"
ALERTED = (
    "dropped",
    "sagging",
    "saving",
    "upload",
    "stopped",
)  # the others need nobody; of skipped steps the journal tells


class Incidents:
    """Appends to a segment's incidents, from any thread, and says them on the log; one that cannot be written is
    only said. Those that somebody should look at are posted as alerts too."""

    def __init__(self, folder: Path, active: bool = True, alerts: Alerts | None = None) -> None:
        self.path, self.active, self.alerts = folder / FILE, active, alerts

    def add(self, kind: str, step: int, what: str, **more: Any) -> None:
        """`kind` is one word (resumed, stopped, skipped, dropped, sagging, saving, upload, tracker)."""
        if not self.active:
            return
        print(f"step {step}: {what}", file=sys.stderr, flush=True)
        if self.alerts is not None and kind in ALERTED:
            self.alerts.post(kind, f"step {step}: {what}", step=step)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": now, "kind": kind, "step": step, "what": what} | more)
        try:
            with self.path.open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            print(f"cannot write {self.path.name}: {error.strerror}", file=sys.stderr)


def read_incidents(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a step's incidents."""
    found = []
    if (folder / FILE).is_file():
        for text in (folder / FILE).read_text().splitlines():
            try:
                found.append(json.loads(text))
            except ValueError:  # cut by a kill or a full disk
                continue
    return found
