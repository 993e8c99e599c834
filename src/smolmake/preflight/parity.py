"""A layout about to be used: a small model trains over it as one device does, and resumes as it stopped.

Would have caught on its first day what cost SmolLM3 a restart after a trillion tokens: weights that should differ
between tensors and did not, because each process drew them from one seed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smolmake.graph.pretrain import segment_run
from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.model.config import IGNORED_LABEL, ModelConfig
from smolmake.monitoring.metrics import METRICS, read_metrics
from smolmake.preflight.results import CheckResult
from smolmake.recipe.pretraining import ModelShape, Optimizer, Precision
from smolmake.recipe.runtime import Layout, Runtime
from smolmake.recipe.schedule import SchedulePiece
from smolmake.train.parallel import ParallelContext, check_layout, full_tensor
from smolmake.train.segment import build_trainer, new_model
from smolmake.train.trainer import Trainer

STEPS, LAYERS, VOCABULARY, SEED, RATE = 6, 4, 512, 0, 1e-3
LENGTH = {"cpu": 64, "cuda": 4096}
# How far losses may be apart: sums in another order, rounded to the precision, over a few optimizer steps.
BOUNDS = {"fp32": 2e-5, "bf16": 5e-3, "float8": 2e-2}


@dataclass(frozen=True)
class RandomBatches:
    """Random tokens in documents, a pure function of the step and the row, as the data engine's batches are.

    Documents are exponential with mean `documents` and at least 16 tokens; 0 makes each sequence one document.
    With `padded` every third sequence ends in padding, as packed ones may: devices have unlike numbers of targets.
    """

    rows: int
    length: int
    documents: int = 30
    vocabulary: int = VOCABULARY
    padded: bool = False

    def lengths(self, row: int) -> list[int]:
        """The documents' lengths of a row: `length` tokens and the label of the last."""
        random, left, lengths = np.random.default_rng(row), self.length + 1, list[int]()
        while left > 0:
            drawn = max(16, int(random.exponential(self.documents))) if self.documents else left
            lengths.append(min(left, drawn))
            left -= lengths[-1]
        return lengths

    def batch(self, step: int, rows: range | None = None) -> tuple[Any, Any, Any]:
        wanted = [step * self.rows + row for row in (rows if rows is not None else range(self.rows))]
        tokens = np.stack([np.random.default_rng(n).integers(0, self.vocabulary, self.length + 1) for n in wanted])
        numbers = np.stack([np.repeat(np.arange(len(lengths)), lengths) for lengths in map(self.lengths, wanted)])
        labels = np.where(numbers[:, 1:] == numbers[:, :-1], tokens[:, 1:], IGNORED_LABEL)
        if self.padded:
            ending = [row for row, n in enumerate(wanted) if n % 3 == 0]
            numbers[ending, self.length // 2 :], labels[ending, self.length // 2 - 1 :] = self.length + 1, IGNORED_LABEL
        return tokens[:, :-1].copy(), labels, numbers[:, :-1].copy()


class ParityRun:
    """A few layers of a model, with a small vocabulary, its optimizer and its precision, over all processes.

    Raises:
        UserError: if the model, its optimizer or its batch cannot be spread over the processes.
    """

    def __init__(
        self, model: ModelShape, rope_theta: float, optimizer: Optimizer, precision: Precision,
        parallel: ParallelContext,
    ) -> None:  # fmt: skip
        length = LENGTH[parallel.device.type]
        shape = model.model_copy(update={"num_hidden_layers": LAYERS})
        self.parallel, self.config = parallel, ModelConfig.of(
            shape, vocab_size=VOCABULARY, rope_theta=rope_theta, max_position_embeddings=length
        )  # fmt: skip
        schedule = SchedulePiece(shape="linear", start=0, start_lr=RATE, end=STEPS, end_lr=RATE)
        self.spec = SegmentSpec(
            start=0, end=STEPS, stage_start=0, schedule=(schedule,), optimizer=optimizer, fresh_optimizer=True,
            precision=precision, z_loss=0.0, sequence_length=length, rope_theta=rope_theta, seed=SEED,
            global_batch_size=max(2 * parallel.world_size // parallel.cp_size, 4),
        )  # fmt: skip
        self.run = segment_run(Runtime(recovery_every=1e9, micro_batch=2), Layout())
        check_layout(parallel, self.spec, self.config)

    @property
    def bound(self) -> float:
        return BOUNDS[self.spec.precision]

    @contextmanager
    def trainer(self, parallel: ParallelContext, folder: Path, end: int = STEPS) -> Iterator[Trainer]:
        """A trainer over `parallel` up to step `end`, with the weights of step 0."""
        reader = RandomBatches(self.spec.global_batch_size, self.spec.sequence_length, padded=True)
        spec = self.spec.model_copy(update={"end": end})
        trainer = build_trainer(new_model(self.config, spec), reader, spec, self.run, parallel, folder, "parity")
        yield trainer
        trainer.close()

    def curve(self, parallel: ParallelContext) -> tuple[list[float], dict[str, Tensor]]:
        """The losses of the steps, and the weights after them."""
        with self.trainer(parallel, Path()) as trainer:
            losses = [trainer.step(step, RATE).loss for step in range(STEPS)]
            return losses, weights_of(trainer)


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    """All weights, whole, on the CPU; every process of the trainer's context must call it."""
    return {name: full_tensor(parameter.detach()).cpu() for name, parameter in trainer.model.named_parameters()}


def parity(run: ParityRun) -> CheckResult:
    """Train a few steps on one device and over all processes: the losses must be the same but for rounding."""
    parallel = run.parallel
    alone = run.curve(ParallelContext(parallel.device)) if parallel.is_main else None
    parallel.barrier()
    together = run.curve(parallel)
    if alone is None:
        return CheckResult("parity", "", "", True)
    apart = max(abs(a - b) / abs(a) for a, b in zip(alone[0], together[0], strict=True))
    weights = max(_distance(alone[1][name], together[1][name]) for name in alone[1])
    moved = len(set(alone[0])) == STEPS
    return CheckResult(
        "parity",
        f"losses within {apart:.1e}, weights within {weights:.1e}, {parallel.world_size} as 1",
        f"losses within {run.bound:.0e}",
        moved and apart <= run.bound,
    )


def resume(run: ParityRun, folder: Path) -> CheckResult:
    """Stop half-way, restore into a new model and go on: the weights come back bit for bit, the losses as before.

    Also checks the log: metrics.jsonl has each step once.
    """
    parallel, losses = run.parallel, run.curve(run.parallel)[0]
    folder = folder / "resume"
    if parallel.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    parallel.barrier()
    halves = []
    for _ in ("to the half and saved", "restored, with nothing left to do"):
        with run.trainer(parallel, folder, STEPS // 2) as trainer:
            trainer.train()
            halves.append(weights_of(trainer))
            trainer.save(STEPS // 2)
            trainer.recovery.wait()
    with run.trainer(parallel, folder) as trainer:
        trainer.train()
    if not parallel.is_main:
        return CheckResult("save and resume", "", "", True)
    lines = read_metrics(folder / METRICS)
    shutil.rmtree(folder)
    same = all(torch.equal(tensor, halves[1][name]) for name, tensor in halves[0].items())
    logged = [line["step"] for line in lines] == list(range(STEPS))
    apart = max(abs(a - line["loss"]) / abs(a) for a, line in zip(losses, lines, strict=False))
    measured = "weights bit for bit" if same else "weights changed"
    measured += f", losses within {apart:.1e}" + ("" if logged else ", steps missing in metrics.jsonl")
    return CheckResult("save and resume", measured, "the same", same and logged and apart <= run.bound)


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / a.norm().clamp(min=1e-12))
