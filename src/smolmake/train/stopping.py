"""When a segment stops before its end: at a SIGTERM, or in time before its job's limit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


class StopSignal:
    """Notes a SIGTERM, so that the loop can save and stop at the next step's end."""

    def __init__(self) -> None:
        self.asked = False
        handler: Callable[[int, FrameType | None], None] = self._note
        signal.signal(signal.SIGTERM, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
