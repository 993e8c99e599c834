"""The recipe's sections on the model and its training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from smolmake.recipe.schedule import Shape
from smolmake.recipe.sources import Adopted
from smolmake.recipe.types import Count, Filled, HubId, Length, Name, Rate, Section, SourceName, Weight, exactly_one


class BaseModelFiles(Section):
    """A model that exists: pretraining goes on from it, or, without `pretraining`, post-training starts with it."""

    hub: HubId | None = Field(None, description="A model of the Hugging Face hub: owner/name.")
    revision: Filled | None = Field(None, description="The hub model's commit.")
    adopt: Adopted | None = Field(None, description="A folder in transformers' format instead.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.hub is not None and self.revision is None:
            raise ValueError("a model of the hub needs its `revision` (a commit): without it the model could change")
        return exactly_one(self, "hub", "adopt")


class ModelShape(Section):
    """The decoder's shape but for what a stage or the tokenizer decides. Keys have transformers' SmolLM3 names."""

    hidden_size: Count = Field(..., ge=8, description="Width of the residual stream.")
    intermediate_size: Count = Field(..., ge=8, description="Width of the gated feed-forward.")
    num_hidden_layers: Count = Field(..., ge=1, description="Number of layers.")
    num_attention_heads: Count = Field(..., ge=1, description="Query heads.")
    num_key_value_heads: Count = Field(..., ge=1, description="Key and value heads: fewer than query heads is GQA.")
    no_rope_layer_interval: Count = Field(4, ge=0, description="Every n-th layer has no position encoding; 0: none.")
    tie_word_embeddings: bool = Field(True, description="Share the embedding table with the output head.")
    rms_norm_eps: float = Field(1e-6, gt=0, description="Epsilon of the RMS norms.")
    initializer_range: float = Field(0.02, gt=0, description="Standard deviation of initial weights.")
    scale_output_projections: bool = Field(
        True, description="Divide it by the root of 2 * num_hidden_layers for projections into the residual stream."
    )
    family: Literal["smollm3", "llama", "qwen3"] = Field(
        "smollm3", description="Class of transformers that reads it; llama has no NoPE layers, qwen3 adds QK-norm."
    )

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.hidden_size % self.num_attention_heads or self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size must be num_attention_heads times an even head size")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        if self.family != "smollm3" and self.no_rope_layer_interval != 0:
            raise ValueError(f"a {self.family} has RoPE in every layer: set no_rope_layer_interval to 0")
        return self

    @property
    def qk_norm(self) -> bool:
        """Norms over each query's and each key's head."""
        return self.family == "qwen3"

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


class Model(ModelShape):
    """The decoder; its vocabulary comes from the tokenizer."""

    rope_theta: float = Field(50_000.0, gt=0, description="RoPE base while pretraining (stages 1 to 3).")
    parameters: Count | None = Field(None, ge=1, description="What the count must come to; a larger miss is an error.")
    parameters_tolerance: float = Field(0.01, ge=0, lt=1, description="How far the count may be from `parameters`.")


class Optimizer(Section):
    """AdamW (Loshchilov and Hutter 2019), Muon (Jordan 2024) or AdEMAMix (Pagliardini et al. 2024)."""

    name: Literal["adamw", "muon", "ademamix"] = Field(
        "adamw", description="muon updates matrices; embeddings, head and norms stay with AdamW."
    )
    momentum: float = Field(0.95, ge=0, lt=1, description="muon: decay of its only moment.")
    beta3: float = Field(0.9999, ge=0, lt=1, description="ademamix: decay of the slow mean.")
    alpha: float = Field(5.0, ge=0, description="ademamix: weight of the slow mean.")
    alpha_warmup_steps: Count = Field(0, ge=0, description="ademamix: steps over which alpha and beta3 rise.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(0.95, ge=0, lt=1, description="Decay of the second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the denominator.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay.")
    no_weight_decay: list[str] = Field(["embed_tokens"], description="Parameters whose name has one of these: none.")
    clip_grad_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this global norm.")

    def used(self) -> dict[str, object]:
        """The settings that this optimizer reads: the others are no part of a result's identity."""
        own = {"muon": {"momentum"}, "ademamix": {"beta3", "alpha", "alpha_warmup_steps"}, "adamw": set[str]()}
        unused = set.union(*own.values()) - own[self.name]
        return self.model_dump(exclude=unused)


class Tail(Section):
    """A constant part after the decay."""

    steps: Count = Field(..., ge=1, description="Optimizer steps.")
    lr: Rate = Field(..., description="Learning rate.")


class Schedule(Section):
    """Learning rate over a run: linear warm-up from 0, a constant part, a decay (WSD, cosine, linear), constant tails.

    Multi-step schedules have no decay and only tails; DeepSeek-V3's is a constant part, a cosine decay and two tails.
    """

    lr: Rate = Field(..., description="Learning rate after warm-up.")
    warmup_steps: Count = Field(0, ge=0, description="Steps of linear warm-up.")
    decay_steps: Count | None = Field(
        None, ge=0, description="Steps of decay at the run's end; null: all after warm-up."
    )
    decay_shape: Shape = Field("linear", description="Form of the decay.")
    min_lr: float = Field(0.0, ge=0, le=10, description="Learning rate at the decay's end.")
    tail: list[Tail] = Field([], description="Constant parts at the run's end, after the decay.")


class Stage(Section):
    """A span of pretraining with one mixture."""

    name: Name = Field(..., description="Such as stage1; used in paths.")
    steps: Count = Field(..., ge=1, description="Optimizer steps.")
    starts_at: Count | None = Field(None, ge=0, description="The step at which it must start: a check, nothing else.")
    mixture: dict[SourceName, Weight] = Field(..., description="Weight of each source; normalised to sum 1.")


class BatchPart(Section):
    """Steps with a smaller batch."""

    steps: Count = Field(..., ge=1, description="Optimizer steps.")
    global_batch_size: Count = Field(..., ge=1, description="Sequences per optimizer step.")


class RollBack(Section):
    """A spike of the loss that lasts: back to a recovery checkpoint from before it, and on without its batches.

    A dropped step counts as seen; weights and optimizer stay as they are, and the schedule goes on.
    """

    loss_above: float = Field(1.3, gt=1, description="A loss this many times the usual one (the median) is high.")
    window: Count = Field(100, ge=2, description="Steps whose losses are the usual ones; before that none is too high.")
    steps_in_a_row: Count = Field(10, ge=1, description="So many high losses in a row are a spike.")
    drop_before: Count = Field(10, ge=0, description="Steps before the spike that are dropped too.")
    max_rollbacks: Count = Field(3, ge=1, description="One more spike in a segment ends the training.")


class Guard(Section):
    """Optimizer steps that are skipped: the batch counts as seen, the weights stay. metrics.jsonl names each."""

    skip_above: float = Field(10.0, gt=1, description="Skip a gradient this many times the usual norm (the median).")
    window: Count = Field(100, ge=2, description="Steps whose norms are the usual ones; before that none is too large.")
    skips_in_a_row: Count = Field(3, ge=1, description="More skips in a row end the training, or roll it back.")
    roll_back: RollBack | None = Field(None, description="Go back before a spike of the loss and drop its batches.")


Precision = Literal["fp32", "bf16", "float8"]
Packing = Literal["concatenate", "best-fit"]


class Pretraining(Section):
    """Stages 1 to 3: one run with one schedule, cut into segments."""

    sequence_length: Length = Field(..., ge=8, description="Tokens a sequence.")
    packing: Packing = Field(
        "concatenate",
        description="concatenate: sequences are cut from the documents laid end to end. best-fit: documents stand side "
        "by side so that none is cut that fits into a sequence, and what room is left is padding.",
    )
    global_batch_size: Count = Field(..., ge=1, description="Sequences per optimizer step, over all devices.")
    segment_steps: Count = Field(
        ..., ge=1, description="A segment is at most this many steps, and ends in a checkpoint."
    )
    milestone_steps: Count | None = Field(
        None, ge=1, description="Weights are kept, and evaluated, at every multiple of this many steps too."
    )
    precision: Precision = Field(
        "fp32", description="Of matrix products and activations; weights, gradients' sums and moments are fp32."
    )
    z_loss: float = Field(0.0, ge=0, description="Weight of the squared log of the softmax's sum, such as 1e-4 (PaLM).")
    batch_warmup: list[BatchPart] = Field([], description="Smaller batches at the start of the first stage.")
    guard: Guard | None = Field(None, description="Steps to skip; without it a gradient that is not finite is an end.")
    optimizer: Optimizer = Field(Optimizer(), description="The optimizer, for long context too.")
    schedule: Schedule = Field(..., description="Learning rate over all stages.")
    stages: list[Stage] = Field(..., min_length=1, description="In order.")


class LongContext(Stage):
    """An extension to longer sequences: raised RoPE theta and a schedule of its own."""

    sequence_length: Length = Field(..., ge=8, description="Tokens a sequence.")
    packing: Packing | None = Field(None, description="How sequences are made of documents; null: as in pretraining.")
    global_batch_size: Count = Field(..., ge=1, description="Sequences per optimizer step.")
    rope_theta: float = Field(..., gt=0, description="RoPE base of this extension.")
    schedule: Schedule = Field(..., description="Learning rate of this extension.")
    fresh_optimizer: bool = Field(True, description="Start the optimizer's state anew instead of going on with it.")
    segment_steps: Count | None = Field(None, ge=1, description="Length of its segments; null: pretraining's.")
