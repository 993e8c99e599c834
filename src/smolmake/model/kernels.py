"""Two GPU kernels that PyTorch does not have, as operators that torch.compile can see: attention over packed documents
(FlashAttention 4, where its package is installed) and a cast to float8 that also gives the transposed tensor.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}
TILE = 128


class VarlenDocuments(NamedTuple):
    """Documents of a batch laid end to end: where each begins, and at last the end, repeated to a round number."""

    starts: Tensor
    longest: int


def pack(document_BT: Tensor) -> VarlenDocuments:
    """The documents of a batch on the CPU. The number of starts is a power of two, so that few graphs are compiled."""
    B, T = document_BT.shape
    begins = torch.ones_like(document_BT, dtype=torch.bool)
    begins[:, 1:] = document_BT[:, 1:] != document_BT[:, :-1]
    found = begins.flatten().nonzero()[:, 0]
    starts = torch.full((max(64, 1 << len(found).bit_length()),), B * T, dtype=torch.int32)
    starts[: len(found)] = found
    return VarlenDocuments(starts, T)


@cache
def has_flash_attention() -> bool:
    """Whether FlashAttention 4 is installed and the GPU is one it is written for (Hopper or Blackwell)."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] not in (9, 10):
        return False
    return all(importlib.util.find_spec(name) is not None for name in ("flash_attn", "flash_attn.cute"))


@torch.library.custom_op("smolmake::flash", mutates_args=())
def flash(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, starts: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Causal attention within documents: output [N, H, E] and the log of each softmax's sum [H, N]."""
    from flash_attn.cute.interface import _flash_attn_fwd

    out, lse = _flash_attn_fwd(
        q_NHE, k_NKE, v_NKE, cu_seqlens_q=starts, cu_seqlens_k=starts, max_seqlen_q=longest, max_seqlen_k=longest,
        causal=True, return_lse=True,
    )[:2]  # fmt: skip
    return out, lse


@flash.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q, memory_format=torch.contiguous_format), q.new_empty(q.shape[1::-1], dtype=torch.float32)


@torch.library.custom_op("smolmake::flash_backward", mutates_args=())
def flash_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, starts: Tensor, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    from flash_attn.cute.interface import _flash_attn_bwd

    dq, dk, dv = _flash_attn_bwd(
        q, k, v, out, gradient, lse, causal=True, cu_seqlens_q=starts, cu_seqlens_k=starts, max_seqlen_q=longest,
        max_seqlen_k=longest, deterministic=torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip
    return dq, dk, dv


@flash_backward.register_fake
def _(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, starts: Tensor, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(part, memory_format=torch.contiguous_format) for part in (q, k, v))
    return dq, dk, dv


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, starts, ctx.longest = inputs
    ctx.save_for_backward(q, k, v, *output, starts)


def _gradient(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, starts = ctx.saved_tensors
    parts = torch.ops.smolmake.flash_backward(gradient.contiguous(), q, k, v, out, lse, starts, ctx.longest)
    return *parts, None, None


torch.library.register_autograd("smolmake::flash", _gradient, setup_context=_keep)


@torch.library.custom_op("smolmake::cast_both", mutates_args=())
def cast_both(x_MN: Tensor, scale: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x / scale in float8, by rows and transposed: the hardware multiplies float8 in one layout only."""
    rows = torch.empty(x_MN.shape, dtype=dtype, device=x_MN.device)
    columns = torch.empty(x_MN.shape[::-1], dtype=dtype, device=x_MN.device)
    inverse = scale.reciprocal()
    if x_MN.is_cuda:
        # Of fp32 tiles Triton 3.6 stored a wrong transpose for some shapes, of bf16 ones a right one for all tried.
        assert x_MN.dtype == torch.bfloat16
        M, N = x_MN.shape
        grid = (-(-M // TILE), -(-N // TILE))
        _cast_kernel()[grid](x_MN.contiguous(), inverse, rows, columns, M, N, LARGEST[dtype], TILE, num_warps=8)
    else:
        limit = LARGEST[dtype]
        rows.copy_((x_MN.float() * inverse).clamp(-limit, limit))
        columns.copy_(rows.view(torch.uint8).t().contiguous().view(dtype))
    return rows, columns


@cast_both.register_fake
def _(x: Tensor, scale: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(x.shape[::-1], dtype=dtype)


@cache
def _cast_kernel() -> Any:
    import triton
    from triton import language as tl

    globals()["tl"] = tl  # a kernel's names are looked up in its module

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def kernel(source, inverse, rows, columns, M, N, LIMIT: tl.constexpr, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
        m = tl.program_id(0) * TILE + tl.arange(0, TILE)
        n = tl.program_id(1) * TILE + tl.arange(0, TILE)
        inside = (m[:, None] < M) & (n[None, :] < N)
        place = m[:, None].to(tl.int64) * N + n[None, :]
        x = tl.load(source + place, mask=inside, other=0.0).to(tl.float32) * tl.load(inverse)
        x = tl.minimum(tl.maximum(x, -LIMIT), LIMIT).to(rows.dtype.element_ty)
        tl.store(rows + place, x, mask=inside)
        turned = n[:, None].to(tl.int64) * M + m[None, :]
        tl.store(columns + turned, tl.trans(x), mask=(n[:, None] < N) & (m[None, :] < M))

    return kernel
