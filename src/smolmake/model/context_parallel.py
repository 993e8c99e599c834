"""Context parallelism: the tokens of each sequence lie on several devices, which share attention out by heads.

As in DeepSpeed Ulysses (Jacobs et al. 2023): everything but attention is done token by token, each device having an
equal stretch of every sequence. For attention the devices exchange queries, keys and values so that each has all tokens
of some heads, and afterwards exchange back. So attention runs the kernels that it runs on one device, and all devices
have the same work whatever the documents are.
Shapes: B sequences, n devices, T tokens of a sequence, S = T / n of them here, H query heads, K key/value heads, E head
dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from smolmake.model.kernels import VarlenDocuments

GROUPS: dict[str, dist.ProcessGroup] = {}


class ContextParallelDocuments(NamedTuple):
    """Documents of whole sequences, where this device has the tokens at `position_S`; `group` is a key of GROUPS."""

    group: str
    position_S: Tensor
    documents: Tensor | VarlenDocuments | None


def to_heads(q_BSHE: Tensor, k_BSKE: Tensor, v_BSKE: Tensor, group: str) -> tuple[Tensor, Tensor, Tensor]:
    """All tokens of this device's share of the heads: [B, T, H / n, E] and twice [B, T, K / n, E].

    Where there are fewer key/value heads than devices, several have the same one.
    """
    n = GROUPS[group].size()
    copies = max(1, n // k_BSKE.shape[2])
    if copies > 1:
        k_BSKE, v_BSKE = (part.repeat_interleave(copies, 2) for part in (k_BSKE, v_BSKE))
    parts = [torch.stack(part.chunk(n, dim=2)) for part in (q_BSHE, k_BSKE, v_BSKE)]
    sizes = [part.shape[3] for part in parts]
    found: Tensor = torch.ops.smolmake.exchange(torch.cat(parts, dim=3), group)
    q, k, v = torch.split(found.transpose(0, 1).flatten(1, 2), sizes, dim=2)
    return q, k, v


def to_tokens(x_BTHE: Tensor, group: str) -> Tensor:
    """All heads of this device's tokens, from its share of the heads of all tokens: [B, S, H, E]."""
    parts = torch.stack(x_BTHE.chunk(GROUPS[group].size(), dim=1))
    found: Tensor = torch.ops.smolmake.exchange(parts, group)
    return found.permute(1, 2, 0, 3, 4).flatten(2, 3)


@torch.library.custom_op("smolmake::exchange", mutates_args=())
def exchange(parts: Tensor, group: str) -> Tensor:
    """Part i of [n, ...] goes to device i; gives the parts that the devices have for this one, in their order."""
    found = torch.empty_like(parts, memory_format=torch.contiguous_format)
    dist.all_to_all_single(found, parts.contiguous(), group=GROUPS[group])
    return found


@exchange.register_fake
def _(parts: Tensor, group: str) -> Tensor:
    return torch.empty_like(parts, memory_format=torch.contiguous_format)


def _keep(ctx: object, inputs: tuple[Tensor, str], output: Tensor) -> None:
    ctx.group = inputs[1]  # type: ignore[attr-defined]


def _gradient(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
    return torch.ops.smolmake.exchange(gradient, ctx.group), None  # type: ignore[attr-defined]


torch.library.register_autograd("smolmake::exchange", _gradient, setup_context=_keep)
