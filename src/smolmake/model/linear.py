"""Matrix products of the decoder in fp32, bf16 or float8, over weights that stay in fp32.

The weights keep transformers' names (q_proj, k_proj, ...), one parameter each; several that share an input are joined
for one wide product on a GPU. bf16 weights are a rounding of the fp32 ones made in each forward pass, and gradients
arrive in fp32, so nothing of the optimizer's state is ever in low precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Precision = Literal["fp32", "bf16", "float8"]
LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}


def compute_dtype(precision: Precision) -> torch.dtype:
    """The type of activations."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


def project(x: Tensor, weights: Sequence[Tensor], float8: bool = False) -> tuple[Tensor, ...]:
    """x [..., D] times each weight [N, D], transposed."""
    if float8:
        joined: Tensor = Float8Product.apply(x.flatten(0, -2), *weights)  # type: ignore[no-untyped-call]
        joined = joined.unflatten(0, x.shape[:-1])
    elif x.is_cuda and len(weights) > 1:
        joined = F.linear(x, torch.cat([weight.to(x.dtype) for weight in weights]))
    else:
        return tuple(F.linear(x, weight.to(x.dtype)) for weight in weights)
    return joined.split([len(weight) for weight in weights], dim=-1)


class Float8Product(torch.autograd.Function):
    """Products with operands scaled to the float8 range by one number a tensor (Micikevicius et al. 2022).

    Inputs and weights are e4m3, gradients e5m2; sums are fp32, results bf16. Of use only inside torch.compile, which
    fuses the casts, and on a GPU that has float8. Sizes must be multiples of 16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        x8, x_scale = to_float8([x], torch.float8_e4m3fn)
        w8, w_scale = to_float8(weights, torch.float8_e4m3fn)
        ctx.save_for_backward(x8, x_scale, w8, w_scale)
        ctx.sizes = [len(weight) for weight in weights]
        ctx.weight_dtype = weights[0].dtype
        return _product(x8, x_scale, w8.t(), w_scale, x.dtype, fast=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x8, x_scale, w8, w_scale = ctx.saved_tensors
        gradient = gradients[0]
        g8, g_scale = to_float8([gradient], torch.float8_e5m2)
        # The hardware wants the left operand by rows and the right one by columns, hence the copies.
        dx = _product(g8, g_scale, w8.t().contiguous().t(), w_scale, gradient.dtype)
        dw = _product(g8.t().contiguous(), g_scale, x8.t().contiguous().t(), x_scale, gradient.dtype)
        return dx, *dw.to(ctx.weight_dtype).split(ctx.sizes)


def to_float8(tensors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The tensors, joined and cast to float8 after division by a common scale; and that scale."""
    largest = torch.stack([tensor.abs().amax().float() for tensor in tensors]).amax()
    scale = largest.clamp(min=1e-12) / LARGEST[dtype]
    parts = [(tensor.float() / scale).clamp(-LARGEST[dtype], LARGEST[dtype]).to(dtype) for tensor in tensors]
    return parts[0] if len(parts) == 1 else torch.cat(parts), scale


def _product(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor, dtype: torch.dtype, fast: bool = False) -> Tensor:
    return torch._scaled_mm(a, b, a_scale, b_scale, out_dtype=dtype, use_fast_accum=fast)
