"""The training loop of one segment: from its parent's checkpoint, or its own recovery checkpoint, to its last step."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smolmake.data.loader import BatchReader
from smolmake.errors import UserError
from smolmake.model.attention import Documents
from smolmake.model.decoder import Decoder
from smolmake.model.kernels import Packed, has_flash_attention, pack
from smolmake.progress import Progress
from smolmake.train.metrics import Metrics
from smolmake.train.optimizer import load_optimizer, optimizer_tensors, set_learning_rate
from smolmake.train.parallel import Group, shard_like, share_model, whole
from smolmake.train.recovery import load_recovery, save_recovery
from smolmake.train.schedule import learning_rate
from smolmake.train.stopping import StopSignal

STOPPED = 143  # the shell's exit code after SIGTERM
LONG = 16_384  # from this length a batch of single documents is worth attention without document masks
Batch = tuple[list[list[Documents]], int]


@dataclass
class Trainer:
    """Model, optimizer and data of a segment. `spec` and `run` are those of the step."""

    model: Decoder
    optimizer: torch.optim.Optimizer
    reader: BatchReader
    spec: dict[str, Any]
    run: dict[str, Any]
    folder: Path
    group: Group
    label: str
    loader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "batches"))

    def __post_init__(self) -> None:
        self.forward = share_model(self.model, self.group)
        self.rows = self.group.rows(self.spec["global_batch"])
        self.ahead: tuple[int, Future[Batch]] | None = None

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
        stop = StopSignal()
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
        parts, own_targets = self._batch(step)
        targets = int(self.group.sum(torch.tensor(own_targets)))
        total = torch.zeros((), device=self.group.device)
        for number, part in enumerate(parts, 1):
            loss = self.forward(number == len(parts), *part, self.spec.get("z_loss", 0.0)) / targets
            (loss * self.group.world).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        total = self.group.sum(total)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(gradients))
        if not torch.isfinite(total) or not torch.isfinite(norm):
            raise UserError(
                f"the loss or its gradient is not finite at step {step}",
                file=self.folder,
                key="pretraining.schedule.peak",
                value=rate,
                remedy="lower the learning rate or lengthen the warm-up; metrics.jsonl has the steps before",
            )
        limit = self.spec["optimizer"]["clip_grad_norm"]
        if float(norm) + 1e-6 > limit:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), limit, norm)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(total), float(norm)

    def micro_batch(self) -> int:
        """Sequences per forward pass: the recipe's number at the pretraining length, fewer for longer sequences."""
        tokens = self.run["micro_batch"] * self.run["sequences_per_forward"]
        return max(1, int(tokens // self.spec["sequence_length"]))

    def _batch(self, step: int) -> Batch:
        """This process's micro-batches of a step on its device; the next step's are read meanwhile."""
        if self.ahead is not None and self.ahead[0] == step:
            batch = self.ahead[1].result()
        else:
            batch = self._read(step)
        if step + 1 < self.spec["end"]:
            self.ahead = step + 1, self.loader.submit(self._read, step + 1)
        return batch

    def _read(self, step: int) -> Batch:
        inputs, labels, documents = (torch.from_numpy(part) for part in self.reader.batch(step, self.rows))
        rows, device = self.micro_batch(), self.group.device
        parts: list[list[Documents]] = []
        for first in range(0, len(inputs), rows):
            cut = slice(first, first + rows)
            tensors = [inputs[cut], labels[cut], self._documents(documents[cut])]
            parts.append([to_device(tensor, device) for tensor in tensors])
        return parts, int((labels != -100).sum())

    def _documents(self, documents: Tensor) -> Documents:
        """Documents in the form that the attention for this device reads."""
        if self.group.device.type != "cuda":
            return documents
        if documents.shape[1] >= LONG and bool((documents == documents[:, :1]).all()) and not has_flash_attention():
            return None
        return pack(documents) if self.model.dtype == torch.bfloat16 and has_flash_attention() else documents

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
                parameter.copy_(shard_like(tensors[f"model/{name}"], parameter))
        load_optimizer(self.model, self.optimizer, tensors)
        print(f"resuming at step {step}", file=sys.stderr)
        return step


def to_device(tensor: Documents, device: torch.device) -> Documents:
    if device.type != "cuda" or tensor is None:
        return tensor
    if isinstance(tensor, Packed):
        return Packed(tensor.starts.pin_memory().to(device, non_blocking=True), tensor.longest)
    return tensor.pin_memory().to(device, non_blocking=True)
