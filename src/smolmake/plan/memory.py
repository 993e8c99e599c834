"""Memory per GPU of a training step, by part, from the model's shape and the layout; what to change if it is short.

Everything is in bytes as the allocator counts it (torch.cuda.max_memory_allocated). The CUDA context, NCCL's buffers
and fragmentation come on top: `MemoryUse.fits` leaves headroom for them. benchmarks/memory.py compares with a GPU.

Letters: t tokens of a micro-batch on this GPU, h hidden size, q and k widths of all query and of all key heads, H
query heads, f intermediate size, V vocabulary, L layers, N parameters, e bytes of a number in compute precision (bf16:
2), r bytes of a number in the residual stream (2; under autocast 4, since the fp32 embedding starts the stream), g
GPUs of the shard group.

States (Rajbhandari et al. 2020, ZeRO, section 3.1, with gradients accumulated in fp32): weights 2N, fp32 master 4N,
gradients 4N, AdamW moments 8N. ZeRO-1 divides master and moments by g, ZeRO-2 gradients too, ZeRO-3 weights too.

Activations (Korthikanti et al. 2022, section 4.1, there for multi-head attention with materialised scores, GELU,
dropout and layer norms; here for what this decoder's autograd graph keeps per token and layer):
    norms         2rh            their inputs, which are the residual stream, and an fp32 factor each
    linears       2eh            inputs of q/k/v and of gate/up; under autocast 5eh: each of the five casts its own copy
    attention     e(2q+2k) + 4H  q, k, v, output (input of the output projection too), fp32 log-sum-exp; no scores
    feed-forward  4ef            gate, up, silu(gate), and their product as input of the down projection
torch has no fused attention for grouped queries in fp32: there, attention is 4eq and the scores 4HT beside it. A dense
document mask of T positions adds eT a layer, its form as a bias, and T once.

Measured with torch 2.11 on one H200, T 4,096, SmolLM3-3B and Llama 3.2 1B, micro-batch 1 to 4, all three precisions
and kinds of checkpointing: peaks are 0.1 to 0.8 % above these; transformers' own SmolLM3 takes 3 to 5 % more (it keeps
bf16 logits and normalised inputs). Sharding and context parallelism are arithmetic, not measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from smolmake.errors import UserError, did_you_mean
from smolmake.plan.size import Shape, count_parameters

GIB = 2**30
HEADROOM = 0.1
LOSS_CHUNKS = 8
FP32, ADAM_MOMENTS = 4, 8
Parts = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a training step is spread over GPUs and over memory.

    `micro_batch` is sequences per forward pass, `sequence_length` tokens of a whole sequence; a context parallel group
    shares a sequence evenly. `sharding` zero3 is FSDP2: fp32 shards, two layers gathered at a time, the embedding
    table always. `checkpointing`: none keeps all activations; selective keeps each layer's input and the outputs of
    its matrix products and attention, and recomputes the rest; full keeps the layer's input alone. `precision`: bf16
    has bf16 weights and an fp32 master copy, autocast has fp32 weights cast in every forward pass, fp32 only those.
    `loss_chunks` above 1: output head and cross-entropy go over the tokens in so many parts, recomputed in the backward
    pass. `accumulates`: a step has more than one micro-batch, so the gradients stay while the next one runs forward.
    `document_mask`: attention within documents by a dense mask, as smolmake.model.decoder makes it.
    """

    micro_batch: int
    sequence_length: int
    sharding: Literal["ddp", "zero1", "zero2", "zero3"] = "ddp"
    shard_group: int = 1
    context_parallel: int = 1
    checkpointing: Literal["none", "selective", "full"] = "none"
    precision: Literal["bf16", "autocast", "fp32"] = "bf16"
    loss_chunks: int = 1
    accumulates: bool = True
    document_mask: bool = False

    def __post_init__(self) -> None:
        for key in ("micro_batch", "sequence_length", "shard_group", "context_parallel", "loss_chunks"):
            if getattr(self, key) < 1:
                raise _impossible(key, getattr(self, key), "give 1 or more")
        for key, valid in _CHOICES.items():
            if getattr(self, key) not in valid:
                raise _impossible(key, getattr(self, key), did_you_mean(str(getattr(self, key)), valid))
        if self.sequence_length % self.context_parallel:
            raise _impossible("context_parallel", self.context_parallel, "give a divisor of sequence_length")

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch on one GPU."""
        return self.micro_batch * self.sequence_length // self.context_parallel

    @property
    def compute_bytes(self) -> int:
        return 4 if self.precision == "fp32" else 2

    @property
    def residual_bytes(self) -> int:
        return 2 if self.precision == "bf16" else 4

    def shards(self, part: Literal["optimizer", "gradients", "weights"]) -> int:
        """Number of GPUs that share this part."""
        first = {"optimizer": 1, "gradients": 2, "weights": 3}[part]
        return self.shard_group if _CHOICES["sharding"].index(self.sharding) >= first else 1


_CHOICES = {
    "sharding": ("ddp", "zero1", "zero2", "zero3"),
    "checkpointing": ("none", "selective", "full"),
    "precision": ("bf16", "autocast", "fp32"),
}


@dataclass(frozen=True)
class Fit:
    """Whether a layout fits; if not, why and what to do. `total` and `usable` in bytes."""

    fits: bool
    total: int
    usable: int
    reason: str
    remedy: str


@dataclass(frozen=True)
class MemoryUse:
    """Bytes by part at the three moments of a step that can be its peak."""

    shape: Shape
    layout: Layout
    moments: dict[str, Parts]

    @property
    def peak_moment(self) -> str:
        return max(self.moments, key=lambda moment: sum(self.moments[moment].values()))

    @property
    def parts(self) -> Parts:
        """Bytes by part at the peak."""
        return self.moments[self.peak_moment]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def fits(self, memory: int, headroom: float = HEADROOM) -> Fit:
        """Whether the peak fits into `memory` bytes of a GPU, of which the share `headroom` is left alone."""
        if not 0 <= headroom < 1:
            raise _impossible("headroom", headroom, "give a share of 1, such as 0.1")
        usable = int(memory * (1 - headroom))
        if self.total <= usable:
            return Fit(True, self.total, usable, f"{_gib(self.total)} of {_gib(usable)} GiB", "")
        largest = sorted(self.parts.items(), key=lambda part: -part[1])[:3]
        reason = (
            f"{_gib(self.total)} GiB are needed ({self.peak_moment}), {_gib(usable)} of {_gib(memory)} can be used; "
            "largest: " + ", ".join(f"{name} {_gib(size)}" for name, size in largest)
        )
        return Fit(False, self.total, usable, reason, self._remedy(usable))

    def _remedy(self, usable: int) -> str:
        """The single changes that suffice; else all of them together; else that none does."""
        sufficient = [
            f"{text} ({_gib(total)} GiB)"
            for text, layout in _changes(self.layout)
            if (total := memory_use(self.shape, layout).total) <= usable
        ]
        halved = [text for text in sufficient if text.startswith("micro_batch")]
        sufficient = [text for text in sufficient if text not in halved[1:]]
        if sufficient:
            return "any one of: " + "; ".join(sufficient)
        least = _least(self.layout)
        total = memory_use(self.shape, least).total
        changed = ", ".join(
            f"{field.name} {getattr(least, field.name)}"
            for field in dataclasses.fields(least)
            if getattr(least, field.name) != getattr(self.layout, field.name)
        )
        if total <= usable:
            return f"no single change suffices; together these do ({_gib(total)} GiB): {changed}"
        return (
            f"even {changed or 'this layout'} needs {_gib(total)} GiB: more GPUs in shard_group and context_parallel, "
            "GPUs with more memory, or a smaller model"
        )


def memory_use(shape: Shape, layout: Layout) -> MemoryUse:
    """Bytes by part when the loss is taken, in the backward pass of a layer, and in the optimizer's step.

    The peak is the largest of the three. Without accumulation the gradients are not there yet when
    activations are most; with it they are.
    """
    states = _states(shape, layout)
    gradients = states.pop("gradients")
    held = gradients if layout.accumulates else 0
    stored = {"activations": _stored_activations(shape, layout)}
    table = _head_gradient(shape, layout)
    loss = states | {"gradients": held, **stored, "logits": _logits(shape, layout)}
    backward = states | {
        "gradients": max(held, table),
        **stored,
        "working": _working(shape, layout) + bool(held) * table,
    }
    step = states | {"gradients": gradients}
    if layout.precision == "autocast":
        step["weights"] = 0
    return MemoryUse(shape, layout, {"at the loss": loss, "in a layer's backward": backward, "optimizer step": step})


def layer_activations(shape: Shape, layout: Layout) -> int:
    """Bytes that autograd keeps of one layer without checkpointing; the formula is at the head of this module."""
    e, r, h = layout.compute_bytes, layout.residual_bytes, shape.hidden_size
    norms = 2 * (r * h + FP32)
    linears = (5 if layout.precision == "autocast" else 2) * e * h
    attention = e * 2 * (shape.query_width + shape.key_value_width) + FP32 * shape.num_attention_heads
    if _keeps_scores(shape, layout):
        attention = e * 4 * shape.query_width + _scores(shape, layout)
    if layout.document_mask:
        attention += e * layout.sequence_length
    feed_forward = 4 * e * shape.intermediate_size
    return layout.tokens * (norms + linears + attention + feed_forward)


def _keeps_scores(shape: Shape, layout: Layout) -> bool:
    return layout.precision == "fp32" and shape.num_key_value_heads < shape.num_attention_heads


def _scores(shape: Shape, layout: Layout) -> int:
    """Bytes of a token's attention scores over all positions, in fp32."""
    return FP32 * shape.num_attention_heads * layout.sequence_length


def _states(shape: Shape, layout: Layout) -> Parts:
    counts = count_parameters(shape)
    total, e = counts.total, layout.compute_bytes
    layer = (counts.attention + counts.feed_forward) // shape.num_hidden_layers
    table = counts.embeddings
    owner: Literal["optimizer", "weights"] = "optimizer" if layout.precision == "bf16" else "weights"
    states = {
        "weights": e * (counts.multiplied if layout.precision == "autocast" else total),
        "master weights": 0 if layout.precision == "fp32" else math.ceil(FP32 * total / layout.shards(owner)),
        "gradients": math.ceil(FP32 * total / layout.shards("gradients")),
        "optimizer": math.ceil(ADAM_MOMENTS * total / layout.shards("optimizer")),
    }
    if layout.sharding == "zero3":
        states["weights"] = e * (2 * layer + table + counts.output_head)
        states["master weights"] = math.ceil(FP32 * total / layout.shard_group)
    if layout.sharding in ("zero2", "zero3"):  # the largest gradient, whole, and its fp32 copy to be reduced
        states["communication"] = (e + FP32) * max(layer, table)
    return states


def _stored_activations(shape: Shape, layout: Layout) -> int:
    """What is kept from the forward to the backward pass: all layers, the final norm's input and output, the mask."""
    e, r, h, t = layout.compute_bytes, layout.residual_bytes, shape.hidden_size, layout.tokens
    once = t * ((r + e) * h + (layout.sequence_length if layout.document_mask else 0))
    if layout.checkpointing == "none":
        return shape.num_hidden_layers * layer_activations(shape, layout) + once
    return shape.num_hidden_layers * t * _kept(shape, layout) + once


def _kept(shape: Shape, layout: Layout) -> int:
    """Bytes of a token that checkpointing keeps of a layer: its input; selective, outputs of products and attention."""
    kept = layout.residual_bytes * shape.hidden_size
    if layout.checkpointing == "selective":
        half = shape.query_width + shape.key_value_width + shape.hidden_size + shape.intermediate_size
        kept += layout.compute_bytes * 2 * half + FP32 * shape.num_attention_heads
    return kept


def _logits(shape: Shape, layout: Layout) -> int:
    """Cross-entropy of fp32 logits: log-softmax, its gradient and that of the logits at one time, 12 t V."""
    logits = 3 * FP32 * math.ceil(layout.tokens / layout.loss_chunks) * shape.vocab_size
    return logits + (_head_gradient(shape, layout) if layout.loss_chunks > 1 else 0)


def _head_gradient(shape: Shape, layout: Layout) -> int:
    """The output head's gradient in its first form; a tied one waits for that of the embedding."""
    return (FP32 if layout.precision == "autocast" else layout.compute_bytes) * shape.vocab_size * shape.hidden_size


def _working(shape: Shape, layout: Layout) -> int:
    """Beside what is stored, in a layer's backward pass: what is recomputed, and gradients of activations.

    The gradients are most at silu(gate) * up: those of the product and of both factors, while the product itself is
    gone, and that of the residual stream twice. A context parallel group gathers the layer's keys and values and, with
    them, their gradients.
    """
    e, r, h = layout.compute_bytes, layout.residual_bytes, shape.hidden_size
    working = layout.tokens * (2 * e * shape.intermediate_size + 2 * r * h)
    if layout.checkpointing != "none":
        working += layout.tokens * r * h
        working += layer_activations(shape, layout) - layout.tokens * _kept(shape, layout)
    if _keeps_scores(shape, layout):
        working += 2 * layout.tokens * _scores(shape, layout)
    if layout.context_parallel > 1:
        working += 4 * e * shape.key_value_width * layout.micro_batch * layout.sequence_length
    return working


def _changes(layout: Layout) -> Iterator[tuple[str, Layout]]:
    """Single changes that save memory, the cheapest in time first."""
    if layout.loss_chunks < LOSS_CHUNKS:
        yield f"loss_chunks {LOSS_CHUNKS}", dataclasses.replace(layout, loss_chunks=LOSS_CHUNKS)
    if layout.shard_group > 1 and layout.sharding != "zero3":
        yield "sharding zero3", dataclasses.replace(layout, sharding="zero3")
    micro_batch = layout.micro_batch
    while micro_batch > 1:
        micro_batch //= 2
        yield f"micro_batch {micro_batch}", dataclasses.replace(layout, micro_batch=micro_batch)
    for checkpointing in ("selective", "full"):
        if _CHOICES["checkpointing"].index(checkpointing) > _CHOICES["checkpointing"].index(layout.checkpointing):
            yield f"checkpointing {checkpointing}", dataclasses.replace(layout, checkpointing=checkpointing)


def _least(layout: Layout) -> Layout:
    """The layout with all changes that save memory on the same GPUs."""
    return dataclasses.replace(
        layout,
        micro_batch=1,
        loss_chunks=max(layout.loss_chunks, LOSS_CHUNKS),
        sharding="zero3" if layout.shard_group > 1 else layout.sharding,
        checkpointing="full",
    )


def _impossible(key: str, value: object, remedy: str) -> UserError:
    return UserError("not a possible layout", key=key, value=value, remedy=remedy)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"
