"""The training loop of one segment: from its parent's checkpoint, or its own recovery checkpoint, to its last step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from smolmake.data.loader import Array
from smolmake.errors import UserError
from smolmake.graph.specs.pretrain import SegmentRun, SegmentSpec
from smolmake.hardware.memory import training_state_bytes
from smolmake.model.attention import DocumentIds
from smolmake.model.config import IGNORED_LABEL
from smolmake.model.context_parallel import ContextParallelDocuments
from smolmake.model.counts import count_parameters, flops_per_token
from smolmake.model.decoder import Decoder
from smolmake.model.kernels import VarlenDocuments, has_flash_attention, pack
from smolmake.monitoring.run_log import RunLog
from smolmake.recipe.schedule import learning_rate
from smolmake.train.diagnostics.step import StepDiagnostics
from smolmake.train.optimizer import Optimizers, load_optimizer, optimizer_tensors, set_learning_rate
from smolmake.train.parallel import ParallelContext, ParallelModel, distribute_like, full_tensor
from smolmake.train.recovery.checkpoint import Recovery, check_disk_space
from smolmake.train.recovery.signals import StopSignal
from smolmake.train.recovery.uploads import Uploads
from smolmake.train.spikes import Drop, GradientGuard, Spikes

STOPPED = 143  # the shell's exit code after SIGTERM
LONG = 16_384  # from this length a batch of single documents is worth attention without document masks
MicroBatch = tuple[Tensor, Tensor, DocumentIds]  # inputs, labels, documents
Batch = tuple[list[MicroBatch], int]


class Batches(Protocol):
    """What a trainer reads: inputs, labels and document numbers [B, T] of some rows of a step's global batch."""

    def batch(self, step: int, rows: range | None = None) -> tuple[Array, Array, Array]: ...


class Trainer:
    """Trains a model that is on its devices already, with an optimizer over its parameters, from `reader`.

    `milestone` is called by all processes after each step that the run names as one.
    """

    def __init__(
        self,
        model: ParallelModel,
        optimizer: Optimizers,
        reader: Batches,
        spec: SegmentSpec,
        run: SegmentRun,
        folder: Path,
        label: str,
        milestone: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.model: Decoder = model.module
        self.parallel: ParallelContext = model.parallel
        self.forward, self.optimizer, self.reader = model.forward, optimizer, reader
        self.spec, self.run, self.folder, self.label, self.milestone = spec, run, folder, label, milestone
        roll_back = None if spec.guard is None else spec.guard.roll_back
        self.guard, self.spikes = GradientGuard(spec.guard), Spikes(roll_back, spec.start)
        self.diagnostics = StepDiagnostics(self.model, reader, spec.global_batch_size, run, self.parallel)
        self.loader = ThreadPoolExecutor(1, "batches")
        self.ahead: tuple[int, Future[Batch]] | None = None
        self.waited = 0.0

    def train(self) -> None:
        """Do the segment's steps that are not done yet.

        Raises:
            UserError: if the loss is not finite, too many steps in a row were skipped, or spikes come again and again.
            SystemExit: with 143 after a SIGTERM or near the job's time limit, once the state is saved.
        """
        self._open()
        step, end, stop = self._resume(), self.spec.end, StopSignal()
        last_save = time.monotonic()
        while step < end:
            spike = self._do(step)
            if spike is not None:
                step = self._roll_back(spike)
                continue
            step += 1
            if step in self.run.milestones:
                self.milestone(step)
                self.uploads.milestone(step)
            due = time.monotonic() - last_save > self.run.recovery_every
            stopping, saving, busy = self.parallel.any(stop.requested, due, self.recovery.busy)
            if stopping or (saving and not busy):
                self.save(step)
                last_save = time.monotonic()
            if stopping and step < end:
                self.recovery.wait()
                self.uploads.stop()
                self.run_log.event("stopped", step, f"stopped by {stop.reason}; this step is the next")
                self.run_log.close()
                sys.exit(STOPPED)
        self.recovery.wait()
        self.run_log.close()

    def close(self) -> None:
        """End the thread that reads batches."""
        self.loader.shutdown(cancel_futures=True)

    def _open(self) -> None:
        """Log, uploads and recovery checkpoints of the segment's folder."""
        spec, run, parallel = self.spec, self.run, self.parallel
        self.run_log = RunLog(
            self.folder, self.label, run.trackers, None if run.alerts is None else run.alerts.model_dump(),
            flops_per_token(self.model.config.shape, spec.sequence_length),
            is_main=parallel.is_main, world_size=parallel.world_size, device=parallel.device,
        )  # fmt: skip
        self.uploads = Uploads(run.upload, self.folder, self.run_log.event, parallel.is_main)
        self.recovery = Recovery(
            self.folder / "recovery", parallel, self.run_log.event, self.uploads.recovery, self.uploads.fetch
        )

    def _do(self, step: int) -> Drop | None:
        """One step, logged; gives the steps to drop if it shows a spike that lasts."""
        began = time.monotonic()
        lr = learning_rate(self.spec.schedule, step)
        values: dict[str, Any] = {"step": step, "tokens": self.spec.tokens_before(step + 1), "learning_rate": lr}
        dropped, spike = self.spikes.dropped(step), None
        if dropped is None:
            result = self.step(step, lr)
            values |= {"loss": result.loss, "grad_norm": result.grad_norm}
            values |= ({"skipped": result.skipped} if result.skipped else {}) | self.diagnostics.values
            spike = self.spikes.watch(step, result.loss, self.guard.too_many)
        else:
            self._forget_ahead()
            self.guard.skipped = 0
            values |= {"loss": None, "grad_norm": None, "dropped": dropped.reason}
        tokens = self.spec.batch_size(step) * self.spec.sequence_length
        self.run_log.step(values, tokens, time.monotonic() - began, self.waited)
        return spike

    def _roll_back(self, spike: Drop) -> int:
        """Go back to before a spike and leave its steps out from now on; gives the next step to do."""
        drops = [*self.spikes.drops, spike]
        self.recovery.wait()
        step = self._restore(spike.first)
        if step is None:
            self.recovery.discard(len(drops), spike.first)
            raise UserError(
                f"{spike.reason} at step {spike.last}, and no whole recovery checkpoint from before it",
                file=self.recovery.folder,
                remedy="run the same command again: it goes on from what is left, or from the start",
            )
        self.spikes.drops = drops
        self._forget_ahead()
        self.save(step)  # from now on the newest state: a killed run drops the same steps
        self.recovery.wait()
        self.recovery.discard(len(drops), spike.first)
        self._begin_log(step)
        message = f"{spike.reason}: went back to step {step}; steps {spike.first} to {spike.last} are dropped"
        self.run_log.event("dropped", spike.last, message, first=spike.first, last=spike.last, resumed=step)
        return step

    def save(self, step: int) -> None:
        """Have a recovery checkpoint written from which `step` is the next to do."""
        safe = self.spikes.safe(step, self.guard.skipped)
        self.recovery.save(step, self.state(), len(self.spikes.drops), safe)

    def _forget_ahead(self) -> None:
        if self.ahead is not None:  # the reader serves one at a time
            self.ahead[1].exception()
            self.ahead = None

    def step(self, step: int, lr: float) -> StepResult:
        """One optimizer step."""
        parts, own_targets = self._batch(step)
        targets = max(1, int(self.parallel.sum(torch.tensor(own_targets))))  # documents of one token have none
        total = torch.zeros((), device=self.parallel.device)
        self.diagnostics.begin(step, self.spec.batch_size(step), targets, parts)
        for number, part in enumerate(parts, 1):
            loss = self.forward(number == len(parts), *part, self.spec.z_loss) / targets
            (loss * self.parallel.world_size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            self.diagnostics.micro_batch(number, part)
        total = self.parallel.sum(total)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = full_tensor(torch.nn.utils.get_total_norm(gradients))
        self.diagnostics.end(float(norm))
        skipped = self.guard.judge(step, float(total), float(norm), lr)
        if skipped is None:
            limit = self.spec.optimizer.clip_grad_norm
            if float(norm) + 1e-6 > limit:
                torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), limit, norm)
            set_learning_rate(self.optimizer, lr)
            self.optimizer.step()
        self.optimizer.zero_grad()
        return StepResult(float(total), float(norm), skipped)

    def _batch(self, step: int) -> Batch:
        """This process's micro-batches of a step on its device; the next step's are read meanwhile."""
        began = time.monotonic()
        ahead = self.ahead
        batch = ahead[1].result() if ahead is not None and ahead[0] == step else self._read(step)
        if step + 1 < self.spec.end:
            self.ahead = step + 1, self.loader.submit(self._read, step + 1)
        self.waited = time.monotonic() - began
        return batch

    def _read(self, step: int) -> Batch:
        own_rows = self.parallel.rows(self.spec.batch_size(step))
        inputs, labels, documents = (torch.from_numpy(part) for part in self.reader.batch(step, own_rows))
        rows, device = self.run.micro_batch, self.parallel.device
        parts: list[MicroBatch] = []
        own = self.parallel.cp_slice(inputs.shape[1])
        for first in range(0, len(inputs), rows):
            cut = slice(first, first + rows)
            part = inputs[cut, own], labels[cut, own], self._documents(documents[cut])
            parts.append(to_device(part, device))
        return parts, int((labels[:, own] != IGNORED_LABEL).sum())

    def _documents(self, document_BT: Tensor) -> DocumentIds:
        """Documents in the form that the attention for this device reads."""
        documents: Tensor | VarlenDocuments | None = document_BT
        if self.parallel.device.type == "cuda":
            if self.model.dtype == torch.bfloat16 and has_flash_attention():
                documents = pack(document_BT)
            elif document_BT.shape[1] >= LONG and bool((document_BT == document_BT[:, :1]).all()):
                documents = None
        if self.parallel.cp_size == 1:
            return documents
        own = self.parallel.cp_slice(document_BT.shape[1])
        return ContextParallelDocuments(self.parallel.cp_group, torch.arange(own.start, own.stop), documents)

    def state(self) -> dict[str, Tensor]:
        """All that a recovery checkpoint must hold."""
        weights = {f"model/{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        state = weights | optimizer_tensors(self.model, self.optimizer)
        return state | self.guard.tensors() | self.spikes.tensors()

    def _resume(self) -> int:
        """Load the newest recovery checkpoint, if any; return the next step to do."""
        if self.parallel.is_main:
            counts = count_parameters(self.model.config.shape)
            check_disk_space(self.folder, training_state_bytes(counts, self.spec.optimizer.name))
        restored = self._restore()
        step = self.spec.start if restored is None else restored
        if restored is not None:
            self.run_log.event("resumed", step, f"resuming at step {step}")
        self._begin_log(step)
        if restored is None and self.spikes.settings is not None:
            self.save(step)  # for a spike before the first recovery checkpoint
        return step

    def _begin_log(self, step: int) -> None:
        self.run_log.begin(step, self.spec.tokens_until(step), self.spec.tokens_until(self.spec.end))

    def _restore(self, before: int | None = None) -> int | None:
        """Put a recovery checkpoint's state in place, the newest or that from before a step; gives its step."""
        parameters = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        loaded = self.recovery.load(parameters, before)
        if loaded is None:
            return None
        step, tensors = loaded
        for name, parameter in parameters.items():
            parameter.copy_(distribute_like(tensors[f"model/{name}"], parameter))
        load_optimizer(self.model, self.optimizer, tensors)
        self.guard.load(tensors)
        self.spikes.load(tensors)
        return step


@dataclass(frozen=True)
class StepResult:
    """The mean loss over unmasked labels of the global batch, the gradient's norm, and why the weights were left as
    they are, if they were."""

    loss: float
    grad_norm: float
    skipped: str | None


def to_device(part: MicroBatch, device: torch.device) -> MicroBatch:
    """The tensors of a micro-batch on the device; on the way there while the CPU goes on."""
    if device.type != "cuda":
        return part
    return torch.utils._pytree.tree_map_only(Tensor, lambda t: t.pin_memory().to(device, non_blocking=True), part)  # type: ignore[no-any-return]
