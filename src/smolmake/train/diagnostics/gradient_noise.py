"""The gradient noise scale (McCandlish, Kaplan, Amodei et al. 2018): the batch from which more sequences help little.

Gradients of micro-batches are differences of what adds up in `.grad`, so measuring changes no bit of the training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from smolmake.errors import UserError
from smolmake.model.config import IGNORED_LABEL
from smolmake.train.parallel import ParallelContext, full_tensor


def estimates(small_square: float, small_inverse: float, big_square: float, big: float) -> tuple[float, float]:
    """Unbiased |G|^2 and tr(Sigma) from gradients of small batches and of one big one (appendix A.1).

    `small_square` is the mean of the small gradients' squared norms and `small_inverse` the mean of 1 / size, so that
    batches need not be of one size: E |G_B|^2 = |G|^2 + tr(Sigma) / B.
    """
    variance = (small_square - big_square) / (small_inverse - 1 / big)
    return big_square - variance / big, variance


class NoiseScale:
    """Measures one step. Sizes are in sequences, and Sigma is the covariance of one sequence's gradient.

    A process with copies of all weights (one device, or DDP) takes its own micro-batches as the small batches; DDP's
    last one is left out, since the others' gradients are added to it. With sharded weights a small batch is the
    micro-batch of all processes together.
    """

    def __init__(self, model: nn.Module, global_batch_size: int, micro_batch: int, parallel: ParallelContext) -> None:
        self.model, self.parallel = model, parallel
        strategy = parallel.layout.strategy
        self.copies = parallel.world_size > 1 and strategy == "ddp"
        self.sharded = parallel.world_size > 1 and not self.copies
        micro_batches = -(-len(parallel.rows(global_batch_size)) // micro_batch)
        trouble = None
        if micro_batches < 2:
            trouble = "needs at least two micro-batches a step on each device"
        elif self.sharded and strategy == "zero1":
            trouble = "cannot see zero1's gradients before the last micro-batch"
        elif parallel.cp_size > 1:
            trouble = "cannot be measured on devices that share a sequence"
        if trouble is not None:
            raise UserError(
                f"the gradient noise scale {trouble}",
                key="runtime.noise_scale_every", value=f"{micro_batches} micro-batches, {strategy}",
                remedy="use a smaller micro_batch or another strategy, or leave noise_scale_every at 0",
            )  # fmt: skip

    def begin(self, batch: int, targets: int, parts: Sequence[Any]) -> None:
        """A step of `batch` sequences with `targets` labels, of which this process has `parts`."""
        self.batch, self.targets, self.parts = batch, targets, len(parts)
        self.before: list[Tensor] | None = None
        self.squares, self.inverses, self.count = 0.0, 0.0, 0

    def micro_batch(self, number: int, inputs: Tensor, labels: Tensor) -> None:
        """After the backward pass of micro-batch `number` (from 1)."""
        if self.copies and number == self.parts:
            return
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        own = gradients if self.before is None else torch._foreach_sub(gradients, self.before)
        norm = float(full_tensor(torch.nn.utils.get_total_norm(own)))
        self.before = [gradient.clone() for gradient in gradients] if number < self.parts else None
        size = torch.tensor([len(inputs), int((labels != IGNORED_LABEL).sum())])
        rows, targets = (self.parallel.sum(size) if self.sharded else size).tolist()
        scale = self.parallel.world_size if self.copies else 1  # the loop multiplies, because DDP averages
        self.squares += (norm * self.targets / max(targets, 1) / scale) ** 2
        self.inverses += 1 / rows
        self.count += 1

    def end(self, norm: float) -> dict[str, float]:
        """The estimates, given the norm of the whole batch's gradient; nothing where they cannot be made."""
        sums = torch.tensor([self.squares, self.inverses, self.count], dtype=torch.float64)
        squares, inverses, count = (self.parallel.sum(sums) if self.copies else sums).tolist()
        self.before = None
        if count == 0 or inverses / count <= 1 / self.batch:
            return {}
        square, variance = estimates(squares / count, inverses / count, norm**2, self.batch)
        if not math.isfinite(square) or not math.isfinite(variance):
            return {}
        return {"gradient_square": square, "gradient_variance": variance, "sequences": self.batch}
