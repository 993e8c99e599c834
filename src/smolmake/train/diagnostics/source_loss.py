"""The loss of a step's global batch by source, from a forward pass of its own before the update."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

from smolmake.data.loader import BatchReader
from smolmake.model.attention import DocumentIds
from smolmake.model.config import IGNORED_LABEL
from smolmake.model.decoder import Decoder
from smolmake.model.head import head_loss
from smolmake.train.parallel import ParallelContext


class SourceLoss:
    """Mean cross-entropy over the unmasked labels of each source's rows."""

    def __init__(self, model: Decoder, reader: BatchReader, parallel: ParallelContext) -> None:
        self.reader, self.parallel = reader, parallel
        model.row_losses = types.MethodType(row_losses, model)  # type: ignore[assignment]
        if isinstance(model, FSDPModule):
            register_fsdp_forward_method(model, "row_losses")
        self.model: Any = model

    @torch.no_grad()
    def of_step(self, step: int, parts: Sequence[Any]) -> dict[str, float]:
        """Source -> loss of the step's global batch, of which this process has `parts`. All processes call it."""
        rows, before = self.reader.span(step)
        share, names = self.parallel.rows(rows), self.reader.mixture.names
        # Asked of the mixture itself: the reader belongs to the thread that reads ahead.
        positions = np.arange(before + share.start, before + share.stop)
        sources = torch.from_numpy(self.reader.mixture.places(positions, self.reader.available).source)
        losses = torch.cat([self.model.row_losses(*part) for part in parts]).double().cpu()
        labels = torch.cat([(part[1] != IGNORED_LABEL).sum(1) for part in parts]).double().cpu()
        sums = torch.zeros(2, len(names), dtype=torch.float64)
        sums[0].index_add_(0, sources, losses)
        sums[1].index_add_(0, sources, labels)
        totals, counts = self.parallel.sum(sums)
        return {name: float(totals[i] / counts[i]) for i, name in enumerate(names) if counts[i]}


def row_losses(model: Decoder, tokens_BT: Tensor, labels_BT: Tensor, document_BT: DocumentIds) -> Tensor:
    """The summed cross-entropy of each row [B]."""
    x_BTD = model.hidden(tokens_BT, document_BT)
    weight = model.lm_head.weight.detach()
    return torch.stack([head_loss(x_TD, weight, labels_T) for x_TD, labels_T in zip(x_BTD, labels_BT, strict=True)])
