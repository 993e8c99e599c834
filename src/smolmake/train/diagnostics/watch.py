"""What is measured inside a step on request: the gradient noise scale and the loss by source. Changes no result."""

from __future__ import annotations

from typing import Any

from smolmake.data.loader import BatchReader
from smolmake.model.decoder import Decoder
from smolmake.train.diagnostics.gradient_noise import NoiseScale
from smolmake.train.diagnostics.source_loss import SourceLoss
from smolmake.train.parallel import Group


class Watch:
    """Called by the loop around a step's micro-batches; `found` has the last step's values for metrics.jsonl.

    Raises:
        UserError: if the noise scale cannot be measured on this layout.
    """

    def __init__(
        self, model: Decoder, reader: BatchReader, spec: dict[str, Any], run: dict[str, Any], group: Group, rows: int
    ) -> None:
        self.every = run.get("noise_scale_every", 0), run.get("source_loss_every", 0)
        self.noise = NoiseScale(model, spec, group, rows) if self.every[0] else None
        self.sources = SourceLoss(model, reader, group) if self.every[1] else None
        self.found: dict[str, Any] = {}
        self.measuring: NoiseScale | None = None

    def begin(self, step: int, batch: int, targets: int, parts: list[list[Any]]) -> None:
        """Before the step's first micro-batch; `parts` are this process's, `batch` and `targets` the global batch's."""
        self.found = {}
        self.measuring = self.noise if self.noise is not None and step % self.every[0] == 0 else None
        if self.measuring is not None:
            self.measuring.begin(batch, targets, parts)
        if self.sources is not None and step % self.every[1] == 0:
            self.found["source_loss"] = self.sources.of_step(step, parts)

    def micro_batch(self, number: int, part: list[Any]) -> None:
        if self.measuring is not None:
            self.measuring.micro_batch(number, part[0], part[1])

    def end(self, norm: float) -> None:
        if self.measuring is not None:
            self.found |= self.measuring.end(norm)
