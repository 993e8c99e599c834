"""What is measured inside a step on request: the gradient noise scale and the loss by source. Changes no result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smolmake.data.loader import BatchReader
from smolmake.graph.specs.pretrain import SegmentRun
from smolmake.model.decoder import Decoder
from smolmake.train.diagnostics.gradient_noise import NoiseScale
from smolmake.train.diagnostics.source_loss import SourceLoss
from smolmake.train.parallel import ParallelContext


class StepDiagnostics:
    """Called by the loop around a step's micro-batches; `values` are the last step's for metrics.jsonl.

    Raises:
        UserError: if the noise scale cannot be measured on this layout.
    """

    def __init__(
        self, model: Decoder, reader: object, global_batch_size: int, run: SegmentRun, parallel: ParallelContext
    ) -> None:
        self.run, self.values = run, dict[str, Any]()
        self.noise: NoiseScale | None = None
        self.sources: SourceLoss | None = None
        if run.noise_scale_every:
            self.noise = NoiseScale(model, global_batch_size, run.micro_batch, parallel)
        if run.source_loss_every:
            assert isinstance(reader, BatchReader)  # others have no sources
            self.sources = SourceLoss(model, reader, parallel)
        self.measuring: NoiseScale | None = None

    def begin(self, step: int, batch: int, targets: int, parts: Sequence[Any]) -> None:
        """Before the step's first micro-batch; `parts` are this process's, `batch` and `targets` the global batch's."""
        self.values = {}
        self.measuring = self.noise if self.noise is not None and step % self.run.noise_scale_every == 0 else None
        if self.measuring is not None:
            self.measuring.begin(batch, targets, parts)
        if self.sources is not None and step % self.run.source_loss_every == 0:
            self.values["source_loss"] = self.sources.of_step(step, parts)

    def micro_batch(self, number: int, part: Sequence[Any]) -> None:
        if self.measuring is not None:
            self.measuring.micro_batch(number, part[0], part[1])

    def end(self, norm: float) -> None:
        if self.measuring is not None:
            self.values |= self.measuring.end(norm)
