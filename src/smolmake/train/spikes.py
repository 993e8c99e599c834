"""Steps that are not taken, and spikes of the loss.

A step is skipped where its gradient is not finite, or far larger than those before. When a spike of the loss lasts, the
training goes back to before it and leaves its batches out.

As PaLM did by hand (Chowdhery et al. 2022, section 5.1): go back to a checkpoint from before the spike and skip the
batches around it. The batch of a step never changes: a dropped step counts as seen, and changes nothing.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from smolmake.data.loader import BatchReader
from smolmake.errors import UserError
from smolmake.recipe.pretraining import Guard, RollBack


class GradientGuard:
    """Judges each gradient; remembers the norms of the steps taken, which are part of the training's state.

    Without settings a gradient that is not finite ends the training and every other one is taken. With `roll_back` the
    training goes back after too many skipped steps, instead of ending.
    """

    def __init__(self, settings: Guard | None) -> None:
        self.factor = None if settings is None else settings.skip_above
        self.tolerated = 0 if settings is None else settings.skips_in_a_row
        self.norms: deque[float] = deque(maxlen=1 if settings is None else settings.window)
        self.skipped = 0
        self.rolls_back = settings is not None and settings.roll_back is not None

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
                key="pretraining.schedule.lr", value=rate,
                remedy="lower the learning rate or lengthen the warm-up; metrics.jsonl has the steps before",
            )  # fmt: skip
        return reason

    def _reason(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss) or not math.isfinite(norm):
            return "the loss or its gradient is not finite"
        if self.factor is None or len(self.norms) < (self.norms.maxlen or 0):
            return None
        usual = statistics.median_high(self.norms)
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


@dataclass(frozen=True)
class Drop:
    """Steps `first` to `last` that are left out, and why: the spike's last loss, and the usual one."""

    first: int
    last: int
    loss: float
    usual: float

    @property
    def reason(self) -> str:
        times = f", {self.loss / self.usual:.2f} times the usual {self.usual:.3g}" if self.usual > 0 else ""
        return f"a spike: loss {self.loss:.3g}{times}"


class Spikes:
    """Watches the loss; its memory and the steps dropped so far are part of the training's state.

    Without settings it sees nothing. Steps before `start` cannot be dropped: they are another segment's.
    """

    def __init__(self, settings: RollBack | None, start: int) -> None:
        self.settings, self.start = settings, start
        self.losses: deque[float] = deque(maxlen=1 if settings is None else settings.window)
        self.in_a_row = 0
        self.drops: list[Drop] = []

    def watch(self, step: int, loss: float, skips: int | None) -> Drop | None:
        """The steps to drop, if the loss of `step` makes it a spike that lasts.

        `skips` counts the gradients skipped in a row, if they are more than is tolerated.

        Raises:
            UserError: when the segment went back as often as it may.
        """
        if self.settings is None:
            return None
        high = self._is_high(loss)
        self.in_a_row = self.in_a_row + 1 if high else 0
        usual = self._usual()
        if not high:  # a spike must not become the usual, nor a loss that is no number
            self.losses.append(loss)
        if self.in_a_row < self.settings.steps_in_a_row and skips is None:
            return None
        length = max(self.in_a_row, skips or 0)
        drop = Drop(max(self.start, step + 1 - length - self.settings.drop_before), step, loss, usual)
        if len(self.drops) >= self.settings.max_rollbacks:
            raise UserError(
                f"{drop.reason} at step {step}, after {len(self.drops)} roll-backs of this segment",
                key="pretraining.guard.roll_back.max_rollbacks", value=self.settings.max_rollbacks,
                remedy="lower the learning rate, or look at the data: events.jsonl has the dropped steps, and "
                "smolmake trace STEP ROW says what they hold",
            )  # fmt: skip
        return drop

    def dropped(self, step: int) -> Drop | None:
        """The drop that a step is part of. High losses on its two sides are not in a row."""
        found = next((drop for drop in self.drops if drop.first <= step <= drop.last), None)
        self.in_a_row = 0 if found else self.in_a_row
        return found

    def safe(self, next_step: int, skips: int) -> int | None:
        """No spike that may be under way or begin with the next step will drop a step before this one."""
        if self.settings is None:
            return None
        return max(self.start, next_step - max(self.in_a_row, skips) - self.settings.drop_before)

    def _is_high(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        full = len(self.losses) == self.losses.maxlen
        assert self.settings is not None
        return full and loss > self.settings.loss_above * self._usual()

    def _usual(self) -> float:
        return statistics.median(self.losses) if self.losses else 0.0

    def tensors(self) -> dict[str, Tensor]:
        """The state as tensors, for a recovery checkpoint."""
        if self.settings is None:
            return {}
        drops = [value for drop in self.drops for value in (drop.first, drop.last, drop.loss, drop.usual)]
        memory = {"spikes/losses": [self.in_a_row, *self.losses], "spikes/drops": [len(self.drops), *drops]}
        return {name: torch.tensor(values, dtype=torch.float64) for name, values in memory.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        if self.settings is None or "spikes/losses" not in tensors:
            return
        in_a_row, *losses = tensors["spikes/losses"].tolist()
        self.in_a_row = int(in_a_row)
        self.losses.clear()
        self.losses.extend(losses)
        _, *drops = tensors["spikes/drops"].tolist()
        fours = [drops[i : i + 4] for i in range(0, len(drops), 4)]
        self.drops = [Drop(int(first), int(last), loss, usual) for first, last, loss, usual in fours]

    def spans(self) -> list[list[int]]:
        """The dropped steps as [first, last], in order, those that touch or overlap as one."""
        spans: list[list[int]] = []
        for drop in sorted(self.drops, key=lambda drop: drop.first):
            if spans and drop.first <= spans[-1][1] + 1:
                spans[-1][1] = max(spans[-1][1], drop.last)
            else:
                spans.append([drop.first, drop.last])
        return spans


def dropped_facts(spikes: Spikes, reader: BatchReader) -> dict[str, Any]:
    """For the manifest: the dropped steps, and the sequences of each source, and tokens, that were not trained on."""
    sequences = dict.fromkeys(reader.mixture.names, 0)
    for first, last in spikes.spans():
        until, before = (reader.mixture.draws_before(reader.span(step)[1]) for step in (last + 1, first))
        sequences = {name: count + until[name] - before[name] for name, count in sequences.items()}
    tokens = sum(sequences.values()) * reader.mixture.sequence_length
    by_source = {name: count for name, count in sequences.items() if count}
    return {"dropped_steps": spikes.spans(), "dropped_tokens": tokens, "dropped_by_source": by_source}
