"""Steps that are not taken: their gradient is not finite, or far larger than those before."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch
from torch import Tensor

from smolmake.errors import UserError


class Guard:
    """Judges each gradient; remembers the norms of the steps taken, which are part of the training's state.

    Without settings a gradient that is not finite ends the training and every other one is taken. With `roll_back` the
    training goes back after too many skipped steps, instead of ending.
    """

    def __init__(self, settings: dict[str, Any] | None) -> None:
        self.factor = None if settings is None else settings["skip_above"]
        self.tolerated = 0 if settings is None else settings["skips_in_a_row"]
        self.norms: deque[float] = deque(maxlen=1 if settings is None else settings["window"])
        self.skipped = 0
        self.rolls_back = bool(settings and settings.get("roll_back"))

    @property
    def too_many(self) -> int | None:
        """How many steps in a row were skipped, if they are more than is tolerated."""
        return self.skipped if self.skipped > self.tolerated else None

    def judge(self, step: int, loss: float, norm: float, rate: float) -> str | None:
        """Why the step is not to be taken, or None.

        Raises:
            UserError: after too many skipped steps in a row, unless the training goes back then.
        """
        reason = self._reason(loss, norm)
        if reason is None:
            self.norms.append(norm)
            self.skipped = 0
            return None
        self.skipped += 1
        if self.too_many and not self.rolls_back:
            raise UserError(
                f"{reason} at step {step}"
                + (f", the {self.skipped}th step in a row that is skipped" if self.tolerated else ""),
                key="pretraining.schedule.peak",
                value=rate,
                remedy="lower the learning rate or lengthen the warm-up; metrics.jsonl has the steps before",
            )
        return reason

    def _reason(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss) or not math.isfinite(norm):
            return "the loss or its gradient is not finite"
        if self.factor is None or len(self.norms) < (self.norms.maxlen or 0):
            return None
        usual = sorted(self.norms)[len(self.norms) // 2]
        if norm > self.factor * usual:
            return f"the gradient's norm of {norm:.3g} is {norm / usual:.1f} times its usual {usual:.3g}"
        return None

    def tensors(self) -> dict[str, Tensor]:
        """The state as tensors, for a recovery checkpoint."""
        return {"guard/norms": torch.tensor([self.skipped, *self.norms], dtype=torch.float64)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        if "guard/norms" in tensors:
            skipped, *norms = tensors["guard/norms"].tolist()
            self.skipped = int(skipped)
            self.norms.clear()
            self.norms.extend(norms)
