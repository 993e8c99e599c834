"""Progress of long work: a bar on a terminal, plain lines in a log, both with rate and time left."""

from __future__ import annotations

import sys
import time

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts work in a unit such as tokens; `add` says how much was done since the last call."""

    def __init__(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.first = done
        self.started = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def add(self, amount: int, note: str = "") -> None:
        """Tell progress; shows it at most ten times a second on a terminal, every five seconds in a log."""
        self.done += amount
        now = time.monotonic()
        if self.done >= self.total or now - self.shown >= (0.1 if self.terminal else SECONDS_BETWEEN_LINES):
            self.shown = now
            self._show(now, note)

    def _show(self, now: float, note: str) -> None:
        rate = (self.done - self.first) / max(now - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        share = self.done / max(self.total, 1)
        text = f"{self.label} {share:4.0%}  {self.done:,}/{self.total:,} {self.unit}  {rate:,.0f}/s  {left:,.0f} s left"
        if note:
            text += f"  {note}"
        if not self.terminal:
            print(text, file=sys.stderr, flush=True)
            return
        bar = "█" * round(20 * share) + "·" * (20 - round(20 * share))
        print(f"\r{bar} {text}\033[K", end="\n" if self.done >= self.total else "", file=sys.stderr, flush=True)
