"""Memory per GPU of a training step, by part, from the model's shape and the layout.

Everything is in bytes as the allocator counts it (torch.cuda.max_memory_allocated). The CUDA context, NCCL's buffers
and fragmentation come on top: `smolmake.hardware.fit` leaves headroom for them. benchmarks/memory.py compares with a
GPU.

Letters: t tokens of a micro-batch on this GPU, h hidden size, q and k widths of all query and of all key heads, H
query heads, f intermediate size, V vocabulary, L layers, N parameters, e bytes of a number in compute precision and
in the residual stream (bf16 and float8: 2, fp32: 4), g GPUs of the shard group.

States (Rajbhandari et al. 2020, ZeRO, section 3.1, with gradients accumulated in fp32): weights 2N, fp32 master 4N,
gradients 4N, moments 8N with AdamW, 12N with AdEMAMix; Muon has 4 for each number of a layer's matrices, 8 for others.
ZeRO-1 divides master and moments by g, ZeRO-2 gradients too, ZeRO-3 weights too.

Activations (Korthikanti et al. 2022, section 4.1, there for multi-head attention with materialised scores, GELU,
dropout and layer norms; here for what this decoder's autograd graph keeps per token and layer):
    norms         2eh            their inputs, which are the residual stream, and an fp32 factor each
    linears       2eh            inputs of q/k/v and of gate/up
    attention     e(2q+2k) + 4H  q, k, v, output (input of the output projection too), fp32 log-sum-exp; no scores
    feed-forward  4ef            gate, up, silu(gate), and their product as input of the down projection
torch has no fused attention for grouped queries in fp32: there, attention is 4eq and the scores 4HT beside it.

float8 keeps the operands that a product's backward pass multiplies, one byte a number: inputs of q/k/v, gate/up and
down (h, h, f) instead of the bf16 ones, a copy of the attention's output (q) beside the bf16 one that attention itself
needs, and of each layer's weights one turned copy instead of the bf16 one, which is whole on every GPU whatever the
sharding, for it is made from gathered weights. In the backward pass it casts the gradients of a product twice, by rows
and turned. Against bf16 that saves 9.8 GiB for the 3B at 4 x 4,096 tokens and 5.9 for the 1B at 8 x 4,096, as measured
(docs/benchmarks/index.md).

Checkpointing in this trainer: selective keeps of a layer what its attention needs and the input of the feed-forward,
which is recomputed; full keeps the layer's input alone. The trainer's 3B at 65,536 tokens takes with selective 0.4 %
(bf16) and 1.3 % (float8) more than these, with full 10 % less.

Measured with torch 2.11 on one H200, T 4,096, SmolLM3-3B and Llama 3.2 1B, micro-batch 1 to 4, bf16 and fp32,
checkpointing none and full: peaks are 0.1 to 0.8 % above these; transformers' own SmolLM3 takes 3 to 5 % more (it keeps
bf16 logits and normalised inputs), the trainer's compiled layers 4 to 8 % less. On four H200s the trainer took 6 to 9 %
less with zero1, zero2 and fsdp, 4 to 6 % more with ddp, and 19 % more with fsdp and context parallelism over four at
65,536 tokens (35.3 GiB, 29.7 by these).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from smolmake.model.counts import Parameters, Shape, count_parameters

if TYPE_CHECKING:
    from smolmake.recipe.pretraining import Precision
    from smolmake.recipe.runtime import Checkpointing

LOSS_CHUNKS = 8
FP32 = 4
RECOVERY_COPIES = 2  # recovery checkpoints on the disk while the next one, or the segment's own checkpoint, is written
OptimizerName = Literal["adamw", "muon", "ademamix"]
MOMENTS = {"adamw": (2, 2), "muon": (1, 2), "ademamix": (3, 3)}  # of the layers' matrices; of all other parameters
Parts = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class MemoryLayout:
    """How a training step is spread over GPUs and over memory.

    `micro_batch` is sequences per forward pass, `sequence_length` tokens of a whole sequence; a context parallel group
    shares a sequence evenly. `sharding` zero3 is FSDP2: fp32 shards, two layers gathered at a time, the embedding
    table always. `checkpointing`: none keeps all activations; selective recomputes the feed-forward; full keeps the
    layer's input alone. `precision`: bf16 has bf16 weights and an fp32 master copy, float8 multiplies in float8 in the
    layers and is bf16 otherwise, fp32 has fp32 weights only. Output head and cross-entropy go over the tokens in
    `loss_chunks` parts. Gradients of the micro-batches before stay while the next one runs forward.
    """

    micro_batch: int
    sequence_length: int
    sharding: Literal["ddp", "zero1", "zero2", "zero3"] = "ddp"
    shard_group: int = 1
    context_parallel: int = 1
    checkpointing: Checkpointing = "none"
    precision: Precision = "bf16"
    loss_chunks: int = LOSS_CHUNKS
    optimizer: OptimizerName = "adamw"

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch on one GPU."""
        return self.micro_batch * self.sequence_length // self.context_parallel

    @property
    def compute_bytes(self) -> int:
        return 4 if self.precision == "fp32" else 2

    @property
    def operand_bytes(self) -> int:
        """Bytes of a number of a product's input, as it is kept for the backward pass."""
        return 1 if self.precision == "float8" else self.compute_bytes

    def shared(self, size: int, part: Literal["optimizer", "gradients", "weights"]) -> int:
        """A GPU's bytes of a part that takes `size` bytes in all."""
        shared = {"ddp": (), "zero1": ("optimizer",), "zero2": ("optimizer", "gradients")}
        return math.ceil(size / self.shard_group) if part in shared.get(self.sharding, (part,)) else size


def moment_bytes(counts: Parameters, optimizer: OptimizerName) -> int:
    """Bytes of an optimizer's fp32 moments, as smolmake.train.optimizer keeps them."""
    matrices = counts.attention + counts.feed_forward
    of_matrices, of_others = MOMENTS[optimizer]
    return FP32 * (of_matrices * matrices + of_others * (counts.total - matrices))


def training_state_bytes(counts: Parameters, optimizer: OptimizerName) -> int:
    """Bytes of what a checkpoint must hold to go on: fp32 weights and the optimizer's moments, whatever the precision
    of the matrix products is."""
    return FP32 * counts.total + moment_bytes(counts, optimizer)


@dataclass(frozen=True)
class MemoryUse:
    """Bytes by part at the three moments of a step that can be its peak."""

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


def memory_use(shape: Shape, layout: MemoryLayout) -> MemoryUse:
    """Bytes by part when the loss is taken, in the backward pass of a layer, and in the optimizer's step."""
    states, table = _states(shape, layout), _head_gradient(shape, layout)
    stored = states | {"activations": _stored_activations(shape, layout)}
    loss = stored | {"logits": _logits(shape, layout)}
    backward = stored | {
        "gradients": max(states["gradients"], table),
        "working": _working(shape, layout) + table,
    }
    return MemoryUse({"at the loss": loss, "in a layer's backward": backward, "optimizer step": states})


def layer_activations(shape: Shape, layout: MemoryLayout) -> int:
    """Bytes that autograd keeps of one layer without checkpointing; the formula is at the head of this module."""
    return layout.tokens * (_attention(shape, layout) + _feed_forward(shape, layout))


def _attention(shape: Shape, layout: MemoryLayout) -> int:
    """Bytes of a token that autograd keeps of a layer's attention, its norm and its input included."""
    e, h = layout.compute_bytes, shape.hidden_size
    kept = e * 2 * (shape.query_width + shape.key_value_width) + FP32 * shape.num_attention_heads
    if _keeps_scores(shape, layout):
        kept = e * 4 * shape.query_width + _scores(shape, layout)
    if layout.precision == "float8":
        kept += layout.operand_bytes * shape.query_width
    return kept + e * h + FP32 + layout.operand_bytes * h


def _feed_forward(shape: Shape, layout: MemoryLayout) -> int:
    """Bytes of a token that autograd keeps of a layer's feed-forward, its norm and its input included."""
    operands = layout.operand_bytes * (shape.hidden_size + shape.intermediate_size)
    return operands + layout.compute_bytes * (shape.hidden_size + 3 * shape.intermediate_size) + FP32


def _keeps_scores(shape: Shape, layout: MemoryLayout) -> bool:
    return layout.precision == "fp32" and shape.num_key_value_heads < shape.num_attention_heads


def _scores(shape: Shape, layout: MemoryLayout) -> int:
    """Bytes of a token's attention scores over all positions, in fp32."""
    return FP32 * shape.num_attention_heads * layout.sequence_length


def _states(shape: Shape, layout: MemoryLayout) -> Parts:
    counts = count_parameters(shape)
    total, e = counts.total, layout.compute_bytes
    layer = (counts.attention + counts.feed_forward) // shape.num_hidden_layers
    table = counts.embeddings
    turned = counts.attention + counts.feed_forward if layout.precision == "float8" else 0
    states = {
        "weights": e * (total - turned) + turned,
        "master weights": 0 if layout.precision == "fp32" else layout.shared(FP32 * total, "optimizer"),
        "gradients": layout.shared(FP32 * total, "gradients"),
        "optimizer": layout.shared(moment_bytes(counts, layout.optimizer), "optimizer"),
    }
    if layout.sharding == "zero3":
        states["weights"] = e * (2 * layer + table + counts.output_head)
        if layout.checkpointing != "full":
            states["weights"] += turned
        states["master weights"] = layout.shared(FP32 * total, "weights")
    if layout.sharding in ("zero2", "zero3"):  # the largest gradient, whole, and its fp32 copy to be reduced
        states["communication"] = (e + FP32) * max(layer, table)
    return states


def _stored_activations(shape: Shape, layout: MemoryLayout) -> int:
    """What is kept from the forward to the backward pass: all layers, and the final norm's input and output."""
    once = 2 * layout.compute_bytes * shape.hidden_size
    return layout.tokens * (shape.num_hidden_layers * _kept(shape, layout) + once)


def _kept(shape: Shape, layout: MemoryLayout) -> int:
    """Bytes of a token that are kept of a layer."""
    if layout.checkpointing == "none":
        return _attention(shape, layout) + _feed_forward(shape, layout)
    attention = _attention(shape, layout) if layout.checkpointing == "selective" else 0
    return attention + layout.compute_bytes * shape.hidden_size


def _logits(shape: Shape, layout: MemoryLayout) -> int:
    """Cross-entropy of fp32 logits: log-softmax, its gradient and that of the logits at one time, 12 t V."""
    logits = 3 * FP32 * math.ceil(layout.tokens / layout.loss_chunks) * shape.vocab_size
    return logits + (_head_gradient(shape, layout) if layout.loss_chunks > 1 else 0)


def _head_gradient(shape: Shape, layout: MemoryLayout) -> int:
    """The output head's gradient in its first form; a tied one waits for that of the embedding."""
    return layout.compute_bytes * shape.vocab_size * shape.hidden_size


def _working(shape: Shape, layout: MemoryLayout) -> int:
    """Beside what is stored, in a layer's backward pass: what is recomputed, and gradients of activations.

    The gradients are most at silu(gate) * up: those of the product and of both factors, while the product itself is
    gone, and that of the residual stream twice; in float8 the gradient of a factor is there in two casts too. A context
    parallel group exchanges queries, keys and values: a layer's as they are sent and as they come, for the gradients.
    """
    e, h = layout.compute_bytes, shape.hidden_size
    working = layout.tokens * (2 * e * shape.intermediate_size + 2 * e * h)
    if layout.precision == "float8":
        working += 2 * layout.tokens * shape.intermediate_size
    if layout.checkpointing != "none":
        working += layout.tokens * e * h
        working += layer_activations(shape, layout) - layout.tokens * _kept(shape, layout)
    if _keeps_scores(shape, layout):
        working += 2 * layout.tokens * _scores(shape, layout)
    if layout.context_parallel > 1:
        copies = max(1, layout.context_parallel // shape.num_key_value_heads)
        working += 2 * layout.tokens * e * (shape.query_width + 2 * copies * shape.key_value_width)
    return working
