"""When a segment stops before its end: at a SIGTERM, or in time before its job's limit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

MARGIN = 120.0  # seconds for the last checkpoint; Slurm gives SLURM_JOB_END_TIME to every job


class StopSignal:
    """Notes a SIGTERM or a near time limit, so that the loop can save and stop at the next step's end."""

    def __init__(self) -> None:
        self.signalled = False
        self.limit = float(os.environ.get("SLURM_JOB_END_TIME", "inf"))
        handler: Callable[[int, FrameType | None], None] = self._note
        signal.signal(signal.SIGTERM, handler)

    @property
    def asked(self) -> bool:
        return self.signalled or self.late

    @property
    def late(self) -> bool:
        return time.time() > self.limit - MARGIN

    @property
    def reason(self) -> str:
        return "SIGTERM" if self.signalled else "the job's time limit"

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True
