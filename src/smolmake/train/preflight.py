"""The parity drill: the layout about to be used trains a small model as one device does, or its user is told.

Would have caught on its first day what cost SmolLM3 a restart after a trillion tokens: weights that should differ
between tensors and did not, because each process drew them from one seed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from smolmake.errors import UserError
from smolmake.model.config import ModelConfig
from smolmake.model.decoder import Decoder
from smolmake.model.init import initialise
from smolmake.train.loop import Trainer
from smolmake.train.optimizer import make_optimizer
from smolmake.train.parallel import Group, check_layout, whole

STEPS, LENGTH, LAYERS, VOCABULARY, SEED = 6, 64, 4, 512, 0
# How far losses may be apart: sums in another order, rounded to the precision, over a few optimizer steps.
BOUNDS = {"fp32": 2e-5, "bf16": 5e-3, "float8": 2e-2}


@dataclass(frozen=True)
class DrillBatches:
    """Random sequences of a few documents, a pure function of the step and the row, as the data engine's are."""

    rows: int

    def batch(self, step: int, rows: range | None = None) -> tuple[Any, Any, Any]:
        wanted = [step * self.rows + row for row in (rows if rows is not None else range(self.rows))]
        tokens = np.stack([np.random.default_rng(n).integers(0, VOCABULARY, LENGTH + 1) for n in wanted])
        documents = np.stack([np.random.default_rng(n).random(LENGTH + 1).__lt__(0.05).cumsum() for n in wanted])
        labels = np.where(documents[:, 1:] == documents[:, :-1], tokens[:, 1:], -100)
        return tokens[:, :-1].copy(), labels, documents[:, :-1].copy()


def drill(model: dict[str, Any], spec: dict[str, Any], run: dict[str, Any], group: Group) -> dict[str, Any]:
    """Train a few steps on one device and over the group; gives both curves and the largest differences.

    `model` is the recipe's shape, of which a few layers and a small vocabulary are kept; `spec` has its optimizer,
    global batch and precision.

    Raises:
        UserError: if weights or batches differ at the start, or the losses by more than the precision explains.
    """
    shape = {**model, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "max_position_embeddings": LENGTH}
    scaled = shape.pop("scale_output_projections", True)
    config = ModelConfig(**shape)
    check_layout(group, spec, config)
    alone = _train(config, scaled, spec, run, Group(group.device)) if group.first else None
    group.wait()
    together = _train(config, scaled, spec, run, group)
    if alone is None:
        return {}
    bound = BOUNDS[spec["precision"]]
    result = {
        "processes": group.world,
        "strategy": group.layout.get("strategy", "ddp"),
        "alone": alone[0],
        "together": together[0],
        "loss": max(abs(a - b) / abs(a) for a, b in zip(alone[0], together[0], strict=True)),
        "weights": max(_distance(alone[1][name], together[1][name]) for name in alone[1]),
        "bound": bound,
    }
    if not result["loss"] <= bound:
        raise UserError(
            "this layout does not train as one device does",
            key="run.layouts",
            value=f"losses {together[0]} instead of {alone[0]}, further apart than {bound:.0e}",
            remedy="do not start the training: try another strategy, and report this with the versions in use",
        )
    return result


def _train(
    config: ModelConfig, scaled: bool, spec: dict[str, Any], run: dict[str, Any], group: Group
) -> tuple[list[float], dict[str, Tensor]]:
    model = Decoder(config, spec["precision"])
    initialise(model, SEED, scaled)
    model.to(group.device)
    if group.device.type == "cuda":
        model.compile_blocks()
    spec = {**spec, "start": 0, "end": STEPS, "sequence_length": LENGTH, "batches": None}
    reader: Any = DrillBatches(spec["global_batch"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, None, reader, spec, run, Path(folder), group, "drill")  # type: ignore[arg-type]
        trainer.optimizer = make_optimizer(model, spec["optimizer"])
        losses = [trainer.step(step, 1e-3)[0] for step in range(STEPS)]
        trainer.loader.shutdown()
    return losses, {name: whole(parameter.detach()).cpu() for name, parameter in model.named_parameters()}


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / a.norm().clamp(min=1e-12))
