"""Matrix products of the decoder in fp32, bf16 or float8, over weights that stay in fp32.

The weights keep transformers' names (q_proj, k_proj, ...), one parameter each. bf16 weights are a rounding of the fp32
ones made in each forward pass, and gradients are added up in fp32, so nothing of the optimizer is in low precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from smolmake.model.kernels import LARGEST, cast_both
from smolmake.recipe.pretraining import Precision


def compute_dtype(precision: Precision) -> torch.dtype:
    """The type of activations."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


def project(x: Tensor, weight: Tensor, float8: bool = False) -> Tensor:
    """x [..., D] times a weight [N, D], transposed."""
    return project_each(x, [weight], float8)[0]


def project_each(x: Tensor, weights: Sequence[Tensor], float8: bool = False) -> tuple[Tensor, ...]:
    """x times each weight: separate products, so that no wide output has to be cut and joined again."""
    if not float8:
        return tuple(F.linear(x, weight.to(x.dtype)) for weight in weights)
    outputs: tuple[Tensor, ...] = Float8Product.apply(x.flatten(0, -2), *weights)  # type: ignore[no-untyped-call]
    return tuple(output.view(*x.shape[:-1], -1) for output in outputs)


def project_joined(x: Tensor, weights: Sequence[Tensor], float8: bool = False) -> tuple[Tensor, ...]:
    """x times each weight; on a GPU as one product, for weights too narrow to fill it alone."""
    if not x.is_cuda:
        return project_each(x, weights, float8)
    joined = project(x, torch.cat([weight.to(x.dtype) for weight in weights]), float8)
    return torch.split(joined, [len(weight) for weight in weights], dim=-1)


class Float8Product(torch.autograd.Function):
    """Products with operands scaled to the float8 range by one number a tensor (Micikevicius et al. 2022).

    Inputs and weights are e4m3, gradients e5m2. The forward pass takes the tensor cores' fast sums, gradients sums in
    fp32. Results are bf16, gradients of weights as the weights are.
    For use inside torch.compile and on a GPU that multiplies float8. Sizes must be multiples of 16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        x_scale = scale_of(x, torch.float8_e4m3fn)
        x8, x8_turned = cast_both(x, x_scale, torch.float8_e4m3fn)
        kept, outputs = [x8_turned, x_scale], []
        for weight in weights:
            rounded = weight.to(x.dtype)
            scale = scale_of(weight, torch.float8_e4m3fn)
            w8, w8_turned = cast_both(rounded, scale, torch.float8_e4m3fn)
            outputs.append(_product(x8, x_scale, w8, scale, x.dtype, fast=True))
            kept += [w8_turned, scale]
        ctx.save_for_backward(*kept)
        ctx.weight_dtype = weights[0].dtype
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x8_turned, x_scale, *weights = ctx.saved_tensors
        dx, dw = None, []
        for gradient, w8_turned, w_scale in zip(gradients, weights[::2], weights[1::2], strict=True):
            scale = scale_of(gradient, torch.float8_e5m2)
            g8, g8_turned = cast_both(gradient, scale, torch.float8_e5m2)
            part = _product(g8, scale, w8_turned, w_scale, gradient.dtype)
            dx = part if dx is None else dx + part
            dw.append(_product(g8_turned, scale, x8_turned, x_scale, ctx.weight_dtype))
        assert dx is not None
        return dx, *dw


def scale_of(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """What to divide by so that the largest value is float8's largest."""
    return tensor.abs().amax().float().clamp(min=1e-12) / LARGEST[dtype]


def _product(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor, dtype: torch.dtype, fast: bool = False) -> Tensor:
    """a [M, K] times b [N, K], transposed."""
    return torch._scaled_mm(a, b.t(), a_scale, b_scale, out_dtype=dtype, use_fast_accum=fast)
