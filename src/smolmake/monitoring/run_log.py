"""What a segment tells while it trains: metrics, progress, the machine's readings, events. Changes no result."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from smolmake.monitoring.alerts import AlertSender
from smolmake.monitoring.device_stats import DeviceStats
from smolmake.monitoring.events import Events, note_start
from smolmake.monitoring.metrics import METRICS, Metrics
from smolmake.monitoring.progress import Progress
from smolmake.monitoring.trackers import Trackers


class RunLog:
    """Written by the first process; the others' does nothing."""

    def __init__(
        self,
        folder: Path,
        label: str,
        trackers: Sequence[str],
        alerts: dict[str, Any] | None,
        flops_per_token: float,
        *,
        is_main: bool,
        world_size: int,
        device: torch.device,
    ) -> None:
        self.folder, self.label, self.is_main = folder, label, is_main
        self.alerts = AlertSender(alerts, {"segment": folder.name}, is_main)
        self.events = Events(folder, is_main, self.alerts)
        self.device_stats = DeviceStats(device, flops_per_token, world_size, self.events)
        self.trackers = Trackers(trackers, folder, self.events, is_main)
        self.metrics: Metrics | None = None
        self.skipped = 0  # steps in a row

    def begin(self, step: int, done: int, total: int) -> None:
        """From a step on, at which `done` of `total` tokens are seen: what was told of later steps is taken back."""
        if self.metrics is not None:
            self.metrics.close()
        elif self.is_main:
            note_start(self.folder, step)
        self.metrics = Metrics(self.folder / METRICS, step, self.is_main)
        self.progress = Progress(self.label, total, "tokens", done)

    def step(self, values: dict[str, Any], tokens: int, seconds: float, waited: float) -> None:
        """A step's line; `tokens` are its own."""
        if not self.is_main or self.metrics is None:
            return
        trained = "dropped" not in values
        if trained:
            values = values | self.device_stats.readings(values["step"], tokens, seconds, waited)
        self.skipped = self.skipped + 1 if "skipped" in values else 0
        if self.skipped:
            self.events.add("skipped", values["step"], f"skipped: {values['skipped']}")
        if self.skipped > 1:  # a single one is what the guard is for
            self.alerts.post("skipped", f"{self.skipped} steps in a row skipped, the last {values['step']}")
        if trained:
            self.metrics.kept_seconds += seconds
        now = {"time": round(time.time(), 3), "kept_seconds": round(self.metrics.kept_seconds, 3)}
        self.metrics.write(**values, **now)
        self.trackers.write(values)
        loss = values["loss"]
        told = f"loss {loss:.3f}" if loss is not None and math.isfinite(loss) else "no loss"
        self.progress.add(tokens, told)

    def event(self, kind: str, step: int, what: str, **more: Any) -> None:
        self.events.add(kind, step, what, **more)

    def close(self) -> None:
        if self.metrics is not None:
            self.metrics.close()
        self.trackers.close()
        self.alerts.close()
