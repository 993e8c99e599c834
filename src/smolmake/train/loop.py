"""The training loop of one segment: from its parent's checkpoint, or its own recovery checkpoint, to its last step."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from smolmake.data.loader import BatchReader
from smolmake.errors import UserError
from smolmake.model.decoder import Decoder
from smolmake.progress import Progress
from smolmake.train.metrics import Metrics
from smolmake.train.optimizer import load_optimizer, optimizer_tensors, set_learning_rate
from smolmake.train.recovery import load_recovery, save_recovery
from smolmake.train.schedule import learning_rate

STOPPED = 143  # the shell's exit code after SIGTERM


@dataclass
class Trainer:
    """Model, optimizer and data of a segment. `spec` and `run` are those of the step."""

    model: Decoder
    optimizer: torch.optim.Optimizer
    reader: BatchReader
    spec: dict[str, Any]
    run: dict[str, Any]
    folder: Path
    device: torch.device
    label: str

    def train(self) -> None:
        """Do the segment's steps that are not done yet.

        Raises:
            UserError: if the loss is not finite.
            SystemExit: with 143 after a SIGTERM, once the state is saved.
        """
        start = self._resume()
        metrics = Metrics(self.folder / "metrics.jsonl", start)
        batch_tokens = self.spec["global_batch"] * self.spec["sequence_length"]
        done = (start - self.spec["start"]) * batch_tokens
        total = (self.spec["end"] - self.spec["start"]) * batch_tokens
        progress = Progress(self.label, total, "tokens", done)
        stop = _StopSignal()
        last_save = time.monotonic()
        for step in range(start, self.spec["end"]):
            began = time.monotonic()
            rate = learning_rate(self.spec["schedule"], step)
            loss, grad_norm = self.step(step, rate)
            seconds = time.monotonic() - began
            metrics.write(
                step=step,
                tokens=(step + 1) * batch_tokens,
                loss=loss,
                learning_rate=rate,
                grad_norm=grad_norm,
                tokens_per_second=batch_tokens / seconds,
                seconds=seconds,
            )
            progress.add(batch_tokens, f"loss {loss:.3f}")
            if stop.asked or time.monotonic() - last_save > self.run["recovery_every"]:
                save_recovery(self.folder / "recovery", step + 1, self._state())
                last_save = time.monotonic()
            if stop.asked and step + 1 < self.spec["end"]:
                print(f"stopped by SIGTERM; step {step + 1} is the next", file=sys.stderr)
                sys.exit(STOPPED)

    def step(self, step: int, rate: float) -> tuple[float, float]:
        """One optimizer step: the mean loss over unmasked labels of the global batch, and the gradient's norm."""
        inputs, labels, documents = (torch.from_numpy(part) for part in self.reader.batch(step))
        targets = int((labels != -100).sum())
        rows = self.micro_batch()
        total = torch.zeros((), device=self.device)
        for first in range(0, len(inputs), rows):
            part = [tensor[first : first + rows].to(self.device) for tensor in (inputs, labels, documents)]
            loss = self.model.loss(*part) / targets
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.spec["optimizer"]["clip_grad_norm"])
        if not torch.isfinite(total) or not torch.isfinite(grad_norm):
            raise UserError(
                f"the loss or its gradient is not finite at step {step}",
                file=self.folder,
                key="pretraining.schedule.peak",
                value=rate,
                remedy="lower the learning rate or lengthen the warm-up; metrics.jsonl has the steps before",
            )
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(total), float(grad_norm)

    def micro_batch(self) -> int:
        """Sequences per forward pass: the recipe's number at the pretraining length, fewer for longer sequences."""
        tokens = self.run["micro_batch"] * self.run["sequences_per_forward"]
        return max(1, int(tokens // self.spec["sequence_length"]))

    def _state(self) -> dict[str, Tensor]:
        weights = {f"model/{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        return weights | optimizer_tensors(self.model, self.optimizer)

    def _resume(self) -> int:
        """Load the newest recovery checkpoint, if any; return the next step to do."""
        found = load_recovery(self.folder / "recovery")
        if found is None:
            return int(self.spec["start"])
        step, tensors = found
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model/{name}"])
        load_optimizer(self.model, self.optimizer, tensors)
        print(f"resuming at step {step}", file=sys.stderr)
        return step


class _StopSignal:
    """Notes a SIGTERM, so that the loop can save and stop at the next step's end."""

    def __init__(self) -> None:
        self.asked = False
        handler: Callable[[int, FrameType | None], None] = self._note
        signal.signal(signal.SIGTERM, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
