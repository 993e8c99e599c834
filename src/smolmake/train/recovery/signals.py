"""When a segment stops before its end: at a SIGTERM or Ctrl-C, or in time before its job's limit."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

MARGIN = 120.0  # seconds for the last checkpoint; Slurm gives SLURM_JOB_END_TIME to every job


class StopSignal:
    """Notes a SIGTERM, a SIGINT or a near time limit, so that the loop can save and stop at the next step's end.

    A second SIGINT interrupts at once.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self.limit = float(os.environ.get("SLURM_JOB_END_TIME", "inf"))
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    @property
    def requested(self) -> bool:
        return self.signal is not None or time.time() > self.limit - MARGIN

    @property
    def reason(self) -> str:
        return self.signal or "the job's time limit"

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.default_int_handler)
