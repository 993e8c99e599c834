"""The training loop of one segment: from its parent's checkpoint, or its own recovery checkpoint, to its last step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smolmake.data.batches import batch_at
from smolmake.data.loader import BatchReader
from smolmake.model.attention import Documents
from smolmake.model.config import flops_per_token
from smolmake.model.decoder import Decoder
from smolmake.model.kernels import Packed, has_flash_attention, pack
from smolmake.progress import Progress
from smolmake.train.guard import Guard
from smolmake.train.metrics import Metrics
from smolmake.train.optimizer import Optimizers, load_optimizer, optimizer_tensors, set_learning_rate
from smolmake.train.parallel import Group, shard_like, share_model, whole
from smolmake.train.recovery import load_recovery, save_recovery
from smolmake.train.schedule import learning_rate
from smolmake.train.stopping import StopSignal
from smolmake.train.telemetry import Telemetry

STOPPED = 143  # the shell's exit code after SIGTERM
LONG = 16_384  # from this length a batch of single documents is worth attention without document masks
Batch = tuple[list[list[Documents]], int]


@dataclass
class Trainer:
    """Model, optimizer and data of a segment. `spec` and `run` are those of the step.

    `milestone` is called by all processes after each step that `run["milestones"]` names.
    """

    model: Decoder
    optimizer: Optimizers
    reader: BatchReader
    spec: dict[str, Any]
    run: dict[str, Any]
    folder: Path
    group: Group
    label: str
    milestone: Callable[[int], None] | None = None
    loader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "batches"))

    def __post_init__(self) -> None:
        self.forward = share_model(self.model, self.group)
        self.guard = Guard(self.spec.get("guard"))
        self.ahead: tuple[int, Future[Batch]] | None = None
        self.waited = 0.0

    def train(self) -> None:
        """Do the segment's steps that are not done yet.

        Raises:
            UserError: if the loss is not finite, or too many steps in a row were skipped.
            SystemExit: with 143 after a SIGTERM or near the job's time limit, once the state is saved.
        """
        start = self._resume()
        first, length = self.spec["start"], self.spec["sequence_length"]
        metrics = Metrics(self.folder / "metrics.jsonl", start, self.group.first)
        progress = Progress(self.label, self._tokens(self.spec["end"]), "tokens", self._tokens(start))
        telemetry = Telemetry(self.group.device, flops_per_token(self.model.config, length), self.group.world)
        stop, last_save = StopSignal(), time.monotonic()
        for step in range(start, self.spec["end"]):
            began = time.monotonic()
            rate = learning_rate(self.spec["schedule"], step)
            loss, grad_norm, skipped = self.step(step, rate)
            values: dict[str, Any] = {"step": step, "tokens": self._tokens(step + 1, whole_run=True), "loss": loss}
            values |= {"learning_rate": rate, "grad_norm": grad_norm} | ({"skipped": skipped} if skipped else {})
            tokens, seconds = self._batch_size(step) * length, time.monotonic() - began
            metrics.write(**values, **telemetry.readings(step, tokens, seconds, self.waited))
            if self.group.first:
                progress.add(tokens, f"loss {loss:.3f}")
            if self.milestone is not None and step + 1 in self.run.get("milestones", []):
                self.milestone(step + 1)
            due = time.monotonic() - last_save > self.run["recovery_every"]
            stopping, saving = self.group.any(stop.asked, due)
            if stopping or saving:
                save_recovery(self.folder / "recovery", step + 1, self._state(), self.group)
                last_save = time.monotonic()
            if stopping and first <= step + 1 < self.spec["end"]:
                print(f"stopped by {stop.reason}; step {step + 1} is the next", file=sys.stderr)
                sys.exit(STOPPED)

    def step(self, step: int, rate: float) -> tuple[float, float, str | None]:
        """One optimizer step: the mean loss over unmasked labels of the global batch, the gradient's norm, and why the
        weights were left as they are, if they were.
        """
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
        skipped = self.guard.judge(step, float(total), float(norm), rate)
        if skipped is None:
            limit = self.spec["optimizer"]["clip_grad_norm"]
            if float(norm) + 1e-6 > limit:
                torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), limit, norm)
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
        self.optimizer.zero_grad()
        return float(total), float(norm), skipped

    def micro_batch(self) -> int:
        """Sequences per forward pass: the recipe's number at the pretraining length, fewer for longer sequences."""
        rows = self.group.layout.get("micro_batch") or self.run["micro_batch"]
        return max(1, int(rows * self.run["sequences_per_forward"] // self.spec["sequence_length"]))

    def _batch_size(self, step: int) -> int:
        batches = self.spec.get("batches")
        return int(self.spec["global_batch"]) if batches is None else batch_at(batches, step)[0]

    def _tokens(self, step: int, whole_run: bool = False) -> int:
        """Tokens before a step, of the segment or of the whole run."""
        first = self.spec["start"]
        if self.spec.get("batches") is None:
            return int((step - (0 if whole_run else first)) * self.spec["global_batch"] * self.spec["sequence_length"])
        before = 0 if whole_run else batch_at(self.spec["batches"], first)[1]
        return int((batch_at(self.spec["batches"], step)[1] - before) * self.spec["sequence_length"])

    def _batch(self, step: int) -> Batch:
        """This process's micro-batches of a step on its device; the next step's are read meanwhile."""
        began = time.monotonic()
        known = self.ahead is not None and self.ahead[0] == step
        batch = self.ahead[1].result() if known and self.ahead is not None else self._read(step)
        if step + 1 < self.spec["end"]:
            self.ahead = step + 1, self.loader.submit(self._read, step + 1)
        self.waited = time.monotonic() - began
        return batch

    def _read(self, step: int) -> Batch:
        share = self.group.rows(self._batch_size(step))
        inputs, labels, documents = (torch.from_numpy(part) for part in self.reader.batch(step, share))
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
        if self.model.dtype == torch.bfloat16 and has_flash_attention():
            return pack(documents)
        single = documents.shape[1] >= LONG and bool((documents == documents[:, :1]).all())
        return None if single else documents

    def _state(self) -> dict[str, Tensor]:
        weights = {f"model/{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        return weights | optimizer_tensors(self.model, self.optimizer) | self.guard.tensors()

    def _resume(self) -> int:
        """Load the newest recovery checkpoint, if any; return the next step to do."""
        parameters = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        found = load_recovery(self.folder / "recovery", parameters, self.group)
        if found is None:
            return int(self.spec["start"])
        step, tensors = found
        for name, parameter in parameters.items():
            parameter.copy_(shard_like(tensors[f"model/{name}"], parameter))
        load_optimizer(self.model, self.optimizer, tensors)
        self.guard.load(tensors)
        if self.group.first:
            print(f"resuming at step {step}", file=sys.stderr)
        return step


def to_device(tensor: Documents, device: torch.device) -> Documents:
    if device.type != "cuda" or tensor is None:
        return tensor
    if isinstance(tensor, Packed):
        return Packed(tensor.starts.pin_memory().to(device, non_blocking=True), tensor.longest)
    return tensor.pin_memory().to(device, non_blocking=True)
