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
from smolmake.errors import UserError
from smolmake.model.attention import Documents
from smolmake.model.context_parallel import Split
from smolmake.model.counts import flops_per_token
from smolmake.model.decoder import Decoder
from smolmake.model.kernels import Packed, has_flash_attention, pack
from smolmake.monitoring.run_log import Journal
from smolmake.recipe.schedule import learning_rate
from smolmake.train.diagnostics.watch import Watch
from smolmake.train.guard import Guard
from smolmake.train.optimizer import Optimizers, load_optimizer, optimizer_tensors, set_learning_rate
from smolmake.train.parallel import Group, shard_like, share_model, whole
from smolmake.train.recovery.checkpoint import Recovery
from smolmake.train.recovery.signals import StopSignal
from smolmake.train.recovery.uploads import Uploads
from smolmake.train.spikes import Drop, Spikes

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
        self.spikes = Spikes((self.spec.get("guard") or {}).get("roll_back"), self.spec["start"])
        self.watch = Watch(self.model, self.reader, self.spec, self.run, self.group, self.micro_batch())
        self.ahead: tuple[int, Future[Batch]] | None = None
        self.waited = 0.0

    def train(self) -> None:
        """Do the segment's steps that are not done yet.

        Raises:
            UserError: if the loss is not finite, too many steps in a row were skipped, or spikes come again and again.
            SystemExit: with 143 after a SIGTERM or near the job's time limit, once the state is saved.
        """
        flops = flops_per_token(self.model.config.shape, self.spec["sequence_length"])
        journal = self.journal = Journal(self.folder, self.label, self.group, self.run, flops)
        self.uploads = uploads = Uploads(self.run.get("upload"), self.folder, journal.incident, self.group.first)
        self.recovery = Recovery(
            self.folder / "recovery", self.group, journal.incident, uploads.recovery, uploads.fetch
        )
        step, end, stop = self._resume(), self.spec["end"], StopSignal()
        last_save = time.monotonic()
        while step < end:
            spike = self._do(step)
            if spike is not None:
                step = self._roll_back(spike)
                continue
            step += 1
            if self.milestone is not None and step in self.run.get("milestones", []):
                self.milestone(step)
                uploads.milestone(step)
            due = time.monotonic() - last_save > self.run["recovery_every"]
            stopping, saving, busy = self.group.any(stop.asked, due, self.recovery.busy)
            if stopping or (saving and not busy):
                self.save(step)
                last_save = time.monotonic()
            if stopping and step < end:
                self.recovery.wait()
                uploads.stop()
                journal.incident("stopped", step, f"stopped by {stop.reason}; this step is the next")
                journal.close()
                sys.exit(STOPPED)
        self.recovery.wait()
        journal.close()

    def _do(self, step: int) -> Drop | None:
        """One step, told; gives the steps to drop if it shows a spike that lasts."""
        began = time.monotonic()
        rate = learning_rate(self.spec["schedule"], step)
        values: dict[str, Any] = {"step": step, "tokens": self._tokens(step + 1, whole_run=True), "learning_rate": rate}
        dropped, spike = self.spikes.dropped(step), None
        if dropped is None:
            loss, norm, skipped = self.step(step, rate)
            values |= {"loss": loss, "grad_norm": norm} | ({"skipped": skipped} if skipped else {})
            values |= self.watch.found
            spike = self.spikes.watch(step, loss, self.guard.too_many)
        else:
            self._forget_ahead()
            self.guard.skipped = 0
            values |= {"loss": None, "grad_norm": None, "dropped": dropped.reason}
        tokens = self._batch_size(step) * self.spec["sequence_length"]
        self.journal.step(values, tokens, time.monotonic() - began, self.waited)
        return spike

    def _roll_back(self, spike: Drop) -> int:
        """Go back to before a spike and leave its steps out from now on; gives the next step to do."""
        drops = [*self.spikes.drops, spike]
        self.recovery.wait()
        found = self._restore(spike.first)
        if found is None:
            self.recovery.discard(len(drops), spike.first)
            raise UserError(
                f"{spike.reason} at step {spike.last}, and no whole recovery checkpoint from before it",
                file=self.recovery.folder, remedy="run the same command again: it goes on from what is left, or anew",
            )  # fmt: skip
        self.spikes.drops = drops
        self._forget_ahead()
        self.save(found)  # from now on the newest state: a killed run drops the same steps
        self.recovery.wait()
        self.recovery.discard(len(drops), spike.first)
        self.journal.begin(found, self._tokens(found), self._tokens(self.spec["end"]))
        told = f"{spike.reason}: went back to step {found}; steps {spike.first} to {spike.last} are dropped"
        self.journal.incident("dropped", spike.last, told, first=spike.first, last=spike.last, resumed=found)
        return found

    def save(self, step: int) -> None:
        safe = self.spikes.safe(step, self.guard.skipped)
        self.recovery.save(step, self._state(), len(self.spikes.drops), safe)

    def _forget_ahead(self) -> None:
        if self.ahead is not None:  # the reader serves one at a time
            self.ahead[1].exception()
            self.ahead = None

    def step(self, step: int, rate: float) -> tuple[float, float, str | None]:
        """One optimizer step: the mean loss over unmasked labels of the global batch, the gradient's norm, and why the
        weights were left as they are, if they were.
        """
        parts, own_targets = self._batch(step)
        targets = max(1, int(self.group.sum(torch.tensor(own_targets))))  # documents of one token have none
        total = torch.zeros((), device=self.group.device)
        self.watch.begin(step, self._batch_size(step), targets, parts)
        for number, part in enumerate(parts, 1):
            loss = self.forward(number == len(parts), *part, self.spec.get("z_loss", 0.0)) / targets
            (loss * self.group.world).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            self.watch.micro_batch(number, part)
        total = self.group.sum(total)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(gradients))
        self.watch.end(float(norm))
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
        ahead = self.ahead
        batch = ahead[1].result() if ahead is not None and ahead[0] == step else self._read(step)
        if step + 1 < self.spec["end"]:
            self.ahead = step + 1, self.loader.submit(self._read, step + 1)
        self.waited = time.monotonic() - began
        return batch

    def _read(self, step: int) -> Batch:
        share = self.group.rows(self._batch_size(step))
        inputs, labels, documents = (torch.from_numpy(part) for part in self.reader.batch(step, share))
        rows, device = self.micro_batch(), self.group.device
        parts: list[list[Documents]] = []
        own = self.group.positions(inputs.shape[1])
        for first in range(0, len(inputs), rows):
            cut = slice(first, first + rows)
            tensors = [inputs[cut, own], labels[cut, own], self._documents(documents[cut])]
            parts.append([to_device(tensor, device) for tensor in tensors])
        return parts, int((labels[:, own] != -100).sum())

    def _documents(self, document_BT: Tensor) -> Documents:
        """Documents in the form that the attention for this device reads."""
        documents = self._whole(document_BT)
        if self.group.sharing == 1:
            return documents
        own = self.group.positions(document_BT.shape[1])
        return Split(self.group.context, torch.arange(own.start, own.stop), documents)

    def _whole(self, document_BT: Tensor) -> Tensor | Packed | None:
        if self.group.device.type != "cuda":
            return document_BT
        if self.model.dtype == torch.bfloat16 and has_flash_attention():
            return pack(document_BT)
        single = document_BT.shape[1] >= LONG and bool((document_BT == document_BT[:, :1]).all())
        return None if single else document_BT

    def _state(self) -> dict[str, Tensor]:
        weights = {f"model/{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        state = weights | optimizer_tensors(self.model, self.optimizer)
        return state | self.guard.tensors() | self.spikes.tensors()

    def _resume(self) -> int:
        """Load the newest recovery checkpoint, if any; return the next step to do."""
        step = self._restore()
        if step is not None:
            self.journal.incident("resumed", step, f"resuming at step {step}")
        first = int(self.spec["start"])
        self.journal.begin(first if step is None else step, self._tokens(step or first), self._tokens(self.spec["end"]))
        if step is None and self.spikes.settings is not None:
            self.save(first)  # for a spike before the first recovery checkpoint
        return first if step is None else step

    def _restore(self, before: int | None = None) -> int | None:
        """Put a recovery checkpoint's state in place, the newest or that from before a step; gives its step."""
        parameters = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        found = self.recovery.load(parameters, before)
        if found is None:
            return None
        step, tensors = found
        for name, parameter in parameters.items():
            parameter.copy_(shard_like(tensors[f"model/{name}"], parameter))
        load_optimizer(self.model, self.optimizer, tensors)
        self.guard.load(tensors)
        self.spikes.load(tensors)
        return step


def to_device(part: Documents, device: torch.device) -> Documents:
    """A tensor, or the tensors of a tuple, on the device; on the way there while the CPU goes on."""
    if device.type != "cuda":
        return part
    return torch.utils._pytree.tree_map_only(Tensor, lambda t: t.pin_memory().to(device, non_blocking=True), part)  # type: ignore[no-any-return]
