"""The output head and its cross-entropy in one: logits exist for a chunk of tokens at a time.

The gradient is computed in the forward pass, chunk by chunk, so that logits are neither kept nor computed twice
(as in Liger Kernel, Hsu et al. 2024): at a vocabulary of 128,256 they would be the largest tensor of the model.
Shapes: N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from smolmake.model.config import IGNORED_LABEL

CHUNK = {"cuda": 2**30, "cpu": 2**19}  # logits held at a time: 2 GiB in bf16; 2 MiB in fp32, so that a cache holds them


def head_loss(x_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, z_loss: float = 0.0) -> Tensor:
    """Sum over labels other than -100 of cross-entropy and z_loss times the squared log of the softmax's sum, in fp32.

    The second term is the z-loss of PaLM (Chowdhery et al. 2022), which keeps logits from drifting.
    """
    loss: Tensor = _HeadLoss.apply(x_ND, weight_VD, labels_N, z_loss)  # type: ignore[no-untyped-call]
    return loss


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, z_loss: float) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        weight = weight_VD.to(x_ND.dtype)
        dx = torch.empty_like(x_ND) if wanted else None
        dw = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wanted else None
        total = torch.zeros((), dtype=torch.float32, device=x_ND.device)
        chunks = -(-len(x_ND) * len(weight) // CHUNK["cuda" if x_ND.is_cuda else "cpu"])
        rows = -(-len(x_ND) // chunks)
        gradient = compiled_softmax_gradient() if x_ND.is_cuda else softmax_gradient
        for first in range(0, len(x_ND), rows):
            x = x_ND[first : first + rows]
            loss, dlogits = gradient(x @ weight.t(), labels_N[first : first + rows], z_loss)
            total += loss
            if dx is not None and dw is not None:
                torch.mm(dlogits, weight, out=dx[first : first + rows])
                _add_product(dw, dlogits.t(), x)
        ctx.save_for_backward(dx, dw)
        ctx.weight_dtype = weight_VD.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dx, dw = ctx.saved_tensors
        scale = gradients[0]
        return dx * scale.to(dx.dtype), (dw * scale).to(ctx.weight_dtype), None, None


def softmax_gradient(logits_NV: Tensor, labels_N: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """The summed loss of a chunk, and its gradient with respect to the logits in their type."""
    logits = logits_NV.float()
    valid = labels_N != IGNORED_LABEL
    target = labels_N.clamp(min=0)[:, None]
    if not logits.is_cuda and z_loss == 0:
        # The same in fewer passes over memory, which is what a CPU waits for.
        log_probabilities = torch.log_softmax(logits, -1)
        loss = -log_probabilities.gather(1, target)[:, 0]
        gradient = log_probabilities.exp_().scatter_add_(1, target, -torch.ones_like(loss)[:, None])
        gradient *= valid[:, None]
        return torch.where(valid, loss, 0.0).sum(), gradient.to(logits_NV.dtype)
    lse = torch.logsumexp(logits, -1)
    loss = lse - logits.gather(1, target)[:, 0] + z_loss * lse.square()
    scale = torch.where(valid, 1 + 2 * z_loss * lse, 0.0)
    gradient = torch.exp(logits - lse[:, None]) * scale[:, None]
    columns = torch.arange(logits.shape[1], device=logits.device)
    gradient = gradient - ((columns == target) & valid[:, None]).float()
    return torch.where(valid, loss, 0.0).sum(), gradient.to(logits_NV.dtype)


@cache
def compiled_softmax_gradient() -> Any:
    return torch.compile(softmax_gradient, dynamic=False)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, summed in fp32 whatever the type of a and b."""
    if a.dtype == torch.float32:
        total.addmm_(a, b)
    elif total.is_cuda:
        torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
    else:
        total += a @ b
