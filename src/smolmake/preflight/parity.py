"""Drills of a layout about to be used: a small model trains over it as one device does, and resumes as it stopped.

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

from smolmake.model.config import ModelConfig
from smolmake.model.decoder import Decoder
from smolmake.model.init import initialise
from smolmake.monitoring.metrics import METRICS, read_metrics
from smolmake.preflight.results import Finding
from smolmake.train.optimizer import make_optimizer
from smolmake.train.parallel import Group, check_layout, whole
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
        random, left, found = np.random.default_rng(row), self.length + 1, []
        while left > 0:
            drawn = max(16, int(random.exponential(self.documents))) if self.documents else left
            found.append(min(left, drawn))
            left -= found[-1]
        return found

    def batch(self, step: int, rows: range | None = None) -> tuple[Any, Any, Any]:
        wanted = [step * self.rows + row for row in (rows if rows is not None else range(self.rows))]
        tokens = np.stack([np.random.default_rng(n).integers(0, self.vocabulary, self.length + 1) for n in wanted])
        numbers = np.stack([np.repeat(np.arange(len(lengths)), lengths) for lengths in map(self.lengths, wanted)])
        labels = np.where(numbers[:, 1:] == numbers[:, :-1], tokens[:, 1:], -100)
        if self.padded:
            ending = [row for row, n in enumerate(wanted) if n % 3 == 0]
            numbers[ending, self.length // 2 :], labels[ending, self.length // 2 - 1 :] = self.length + 1, -100
        return tokens[:, :-1].copy(), labels, numbers[:, :-1].copy()


class Drill:
    """A few layers of the recipe's model, with a small vocabulary, its optimizer and its precision, over a group.

    `model` is the recipe's shape; `spec` has the optimizer and the precision.

    Raises:
        UserError: if the model, its optimizer or its batch cannot be spread over the group.
    """

    def __init__(self, model: dict[str, Any], spec: dict[str, Any], run: dict[str, Any], group: Group) -> None:
        length = LENGTH[group.device.type]
        shape = {**model, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "max_position_embeddings": length}
        self.scaled = shape.pop("scale_output_projections", True)
        self.config, self.group = ModelConfig(**shape), group
        rows = max(2 * group.world // group.sharing, 4)
        schedule = [{"shape": "linear", "from": [0, RATE], "to": [STEPS, RATE]}]
        self.spec: dict[str, Any] = {key: spec[key] for key in ("optimizer", "precision")}
        self.spec |= {"start": 0, "end": STEPS, "schedule": schedule, "sequence_length": length, "global_batch": rows}
        self.run = {**run, "micro_batch": 2, "sequences_per_forward": length, "recovery_every": 1e9}
        self.run |= {"noise_scale_every": 0, "source_loss_every": 0, "trackers": [], "upload": None, "alerts": None}
        self.run["layout"] = {**group.layout, "micro_batch": None}
        check_layout(group, self.spec, self.config)

    @property
    def bound(self) -> float:
        return BOUNDS[str(self.spec["precision"])]

    @contextmanager
    def trainer(self, group: Group, folder: Path, end: int = STEPS) -> Iterator[Trainer]:
        """A trainer over `group` up to step `end`, with the weights of step 0."""
        model = Decoder(self.config, self.spec["precision"])
        initialise(model, SEED, self.scaled)
        model.to(group.device)
        model.recompute(group.layout.get("activation_checkpointing", "none"))
        if group.device.type == "cuda":
            model.compile_blocks()
        reader: Any = RandomBatches(self.spec["global_batch"], self.spec["sequence_length"], padded=True)
        trainer = Trainer(model, None, reader, {**self.spec, "end": end}, self.run, folder, group, "drill")  # type: ignore[arg-type]
        trainer.optimizer = make_optimizer(model, self.spec["optimizer"])
        yield trainer
        trainer.loader.shutdown()

    def curve(self, group: Group) -> tuple[list[float], dict[str, Tensor]]:
        """The losses of the steps, and the weights after them."""
        with self.trainer(group, Path()) as trainer:
            losses = [trainer.step(step, RATE)[0] for step in range(STEPS)]
            return losses, weights_of(trainer)


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    """All weights, whole, on the CPU; every process of the trainer's group must ask."""
    return {name: whole(parameter.detach()).cpu() for name, parameter in trainer.model.named_parameters()}


def parity(drill: Drill) -> Finding:
    """Train a few steps on one device and over the group: the losses must be the same but for rounding."""
    group = drill.group
    alone = drill.curve(Group(group.device)) if group.first else None
    group.wait()
    together = drill.curve(group)
    if alone is None:
        return Finding("parity", "", "", True)
    apart = max(abs(a - b) / abs(a) for a, b in zip(alone[0], together[0], strict=True))
    weights = max(_distance(alone[1][name], together[1][name]) for name in alone[1])
    moved = len(set(alone[0])) == STEPS
    return Finding(
        "parity",
        f"losses within {apart:.1e}, weights within {weights:.1e}, {group.world} as 1",
        f"losses within {drill.bound:.0e}",
        moved and apart <= drill.bound,
    )


def resumption(drill: Drill, place: Path) -> Finding:
    """Stop half-way, restore into a new model and go on: the weights come back bit for bit, the losses as before.

    Also a drill of the log: metrics.jsonl has each step once.
    """
    group, losses = drill.group, drill.curve(drill.group)[0]
    folder = place / "resumption"
    if group.first:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    group.wait()
    halves = []
    for _ in ("to the half and saved", "restored, with nothing left to do"):
        with drill.trainer(group, folder, STEPS // 2) as trainer:
            trainer.train()
            halves.append(weights_of(trainer))
            trainer.save(STEPS // 2)
            trainer.recovery.wait()
    with drill.trainer(group, folder) as trainer:
        trainer.train()
    if not group.first:
        return Finding("save and resume", "", "", True)
    lines = read_metrics(folder / METRICS)
    shutil.rmtree(folder)
    same = all(torch.equal(tensor, halves[1][name]) for name, tensor in halves[0].items())
    logged = [line["step"] for line in lines] == list(range(STEPS))
    apart = max(abs(a - line["loss"]) / abs(a) for a, line in zip(losses, lines, strict=False))
    told = "weights bit for bit" if same else "weights changed"
    told += f", losses within {apart:.1e}" + ("" if logged else ", steps missing in metrics.jsonl")
    return Finding("save and resume", told, "the same", same and logged and apart <= drill.bound)


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / a.norm().clamp(min=1e-12))
