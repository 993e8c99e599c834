"""Causal attention within documents: the masks of a batch, and the kernel for the device.

On a GPU it is FlashAttention 4 over packed documents where that package is installed, else FlexAttention (Dong et al.
2024), which skips the blocks of the score matrix that are masked: with either, short documents in a long sequence cost
little. Elsewhere it is PyTorch's own attention.
Shapes: B sequences, T tokens, H query heads, K key/value heads, E head dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from smolmake.model.context_parallel import ContextParallelDocuments, to_heads, to_tokens
from smolmake.model.kernels import VarlenDocuments

BLOCK = 128
KERNELS = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
DocumentIds = Tensor | VarlenDocuments | ContextParallelDocuments | None
LocalMask = Tensor | BlockMask | VarlenDocuments | None


class ContextParallelMask(NamedTuple):
    """The mask of whole sequences, of which each device of the group has a stretch."""

    group: str
    local: LocalMask


Mask = LocalMask | ContextParallelMask


def attend(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, mask: Mask) -> Tensor:
    """Attention of every token to the earlier ones that `mask` allows (None: all): [B, T, H * E]."""
    B, T, H, E = q_BTHE.shape
    if isinstance(mask, ContextParallelMask):
        q, k, v = to_heads(q_BTHE, k_BTKE, v_BTKE, mask.group)
        own = attend(q, k, v, mask.local).unflatten(2, (-1, E))  # type: ignore[no-untyped-call]
        return to_tokens(own, mask.group).reshape(B, T, H * E)
    if isinstance(mask, VarlenDocuments):
        q_NHE, k_NKE, v_NKE = (part.flatten(0, 1) for part in (q_BTHE, k_BTKE, v_BTKE))
        found: Tensor = torch.ops.smolmake.flash(q_NHE, k_NKE, v_NKE, *mask)[0]
        return found.view(B, T, H * E)
    if isinstance(mask, BlockMask):
        q, k, v = (part.reshape(1, B * T, -1, E).transpose(1, 2) for part in (q_BTHE, k_BTKE, v_BTKE))
        out: Tensor = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        return out.transpose(1, 2).reshape(B, T, H * E)
    q_BHTE, k_BKTE, v_BKTE = (part.transpose(1, 2) for part in (q_BTHE, k_BTKE, v_BTKE))
    if not q_BHTE.is_cuda:
        # With enable_gqa the CPU has only its slow kernel, so the heads are repeated.
        repeats = H // k_BKTE.shape[1]
        k_BHTE, v_BHTE = (part.repeat_interleave(repeats, 1) if repeats > 1 else part for part in (k_BKTE, v_BKTE))
        out = F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, attn_mask=mask, is_causal=mask is None)
    else:
        with sdpa_kernel(KERNELS, set_priority=True):
            out = F.scaled_dot_product_attention(
                q_BHTE, k_BKTE, v_BKTE, attn_mask=mask, is_causal=mask is None, enable_gqa=True
            )
    return out.transpose(1, 2).reshape(B, T, H * E)


def make_mask(document_BT: DocumentIds, blocks: bool) -> Mask:
    """The mask of a batch from a document number per token, for FlexAttention if `blocks`."""
    if isinstance(document_BT, ContextParallelDocuments):
        whole = make_mask(document_BT.documents, blocks)
        assert not isinstance(whole, ContextParallelMask)
        return ContextParallelMask(document_BT.group, whole)
    if document_BT is None or isinstance(document_BT, VarlenDocuments):
        return document_BT
    return block_mask(document_BT) if blocks else document_mask(document_BT)


def document_mask(document_BT: Tensor) -> Tensor:
    """Boolean mask [B, 1, T, T], True where a query may see a key: not later, and in the same document."""
    same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
    return same_BTT.tril()[:, None]


def block_mask(document_BT: Tensor) -> BlockMask:
    """The same mask over the batch laid end to end, as the blocks that attention must compute.

    Documents are contiguous, so a query sees exactly the span from its document's first token to itself, and the
    blocks follow from those first tokens without looking at T x T pairs.
    """
    B, T = document_BT.shape
    first_N = document_starts(document_BT)
    last = B * T - 1
    begins = torch.arange(0, B * T, BLOCK, device=document_BT.device)
    number = torch.arange(len(begins), device=document_BT.device)
    lowest = first_N[begins] // BLOCK  # of the block's first token: no later token's document starts before
    whole = -(-first_N[(begins + BLOCK - 1).clamp(max=last)] // BLOCK)  # from here on every token sees every key
    row, column = number[:, None], number[None, :]
    full = (column >= whole[:, None]) & (column < row)
    partial = (column >= lowest[:, None]) & (column <= row) & ~full

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first_N[query])

    return BlockMask.from_kv_blocks(*_listed(partial), *_listed(full), BLOCK, visible, (B * T, B * T))


def document_starts(document_BT: Tensor) -> Tensor:
    """For each token of the batch laid end to end, the index of its document's first token: [B * T]."""
    B, T = document_BT.shape
    index = torch.arange(B * T, device=document_BT.device).view(B, T)
    starts = torch.ones_like(document_BT, dtype=torch.bool)
    starts[:, 1:] = document_BT[:, 1:] != document_BT[:, :-1]
    return torch.where(starts, index, 0).flatten().cummax(0).values


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """A table of blocks [Q, K] as the number of each row's blocks and their columns, first ones first."""
    count = blocks.sum(-1, dtype=torch.int32)
    columns = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True).to(torch.int32)
    return count[None, None], columns[None, None]
