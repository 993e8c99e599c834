"""Batches of a training step, made from the samples at its positions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolmake.data.batches import batch_at
from smolmake.data.mixture import Mixture, make_mixture, sample
from smolmake.data.shards import Shards, open_shards
from smolmake.identity.manifest import read_manifest, verify_payload

IGNORED_LABEL = -100
Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BatchReader:
    """Reads the global batch of any step of a stage."""

    mixture: Mixture
    shards: dict[str, Shards]
    global_batch: int
    stage_start: int
    batches: list[list[int]] | None = None  # sizes over a warm-up: first step, sequences a step, sequences before

    def batch(self, step: int, rows: range | None = None) -> tuple[Array, Array, Array]:
        """Inputs, labels and document numbers [B, T] of `rows`, or all, of optimizer step `step` of the run.

        A document's first token is no target: its label is -100, as in SmolLM3.
        """
        size, first = self.global_batch, (step - self.stage_start) * self.global_batch
        if self.batches is not None:
            size, first = batch_at(self.batches, step)
        wanted = range(size) if rows is None else rows
        samples = [sample(self.mixture, self.shards, first + row) for row in wanted]
        tokens, documents = (np.stack(parts) for parts in zip(*samples, strict=True))
        labels = np.where(documents[:, 1:] == documents[:, :-1], tokens[:, 1:], IGNORED_LABEL)
        return tokens[:, :-1], labels, documents[:, :-1]


def open_mixture(folder: Path) -> tuple[Mixture, dict[str, Any]]:
    """A mixture from its artefact, with the content of mixture.json."""
    description = json.loads((folder / "mixture.json").read_text())
    return make_mixture(description, np.load(folder / "pattern.npy")), description


def open_mixture_shards(description: dict[str, Any], results: Path) -> dict[str, Shards]:
    """The shards that mixture.json names, verified."""
    shards = {}
    for name, about in description["sources"].items():
        manifest = results / about["shards"] / "manifest.json"
        verify_payload(manifest)
        shards[name] = open_shards(manifest.parent, read_manifest(manifest)["facts"])
    return shards
