"""The recipe's sections on the model and its training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from smolmake.recipe.basics import HubId, Name, Section, Weights
from smolmake.recipe.data import Adopted
from smolmake.recipe.units import Count, Length


class BaseModelFiles(Section):
    """A model that exists: pretraining goes on from it, or, without `pretraining`, post-training starts with it."""

    hub: HubId | None = Field(None, description="A model of the Hugging Face hub: owner/name.")
    revision: str | None = Field(None, description="The hub model's commit.")
    adopt: Adopted | None = Field(None, description="A folder in transformers' format instead.")

    @model_validator(mode="after")
    def _one_place(self) -> BaseModelFiles:
        if (self.hub is None) == (self.adopt is None):
            raise ValueError("give exactly one of `hub` and `adopt`")
        if self.hub is not None and self.revision is None:
            raise ValueError("a model of the hub needs its `revision` (a commit): without it the model could change")
        return self


class Model(Section):
    """The decoder's shape. Keys have transformers' SmolLM3 names; the vocabulary comes from the tokenizer."""

    hidden_size: Count = Field(..., ge=8, description="Width of the residual stream.")
    intermediate_size: Count = Field(..., ge=8, description="Width of the gated feed-forward.")
    num_hidden_layers: int = Field(..., ge=1, description="Number of layers.")
    num_attention_heads: int = Field(..., ge=1, description="Query heads.")
    num_key_value_heads: int = Field(..., ge=1, description="Key and value heads: fewer than query heads is GQA.")
    no_rope_layer_interval: int = Field(4, ge=0, description="Every n-th layer has no position encoding; 0: none.")
    rope_theta: float = Field(50_000.0, gt=0, description="RoPE base while pretraining (stages 1 to 3).")
    tie_word_embeddings: bool = Field(True, description="Share the embedding table with the output head.")
    rms_norm_eps: float = Field(1e-6, gt=0, description="Epsilon of the RMS norms.")
    initializer_range: float = Field(0.02, gt=0, description="Standard deviation of initial weights.")
    parameters: Count | None = Field(None, ge=1, description="What the count must come to; a larger miss is an error.")
    parameters_tolerance: float = Field(0.01, ge=0, lt=1, description="How far the count may be from `parameters`.")

    @model_validator(mode="after")
    def _divides(self) -> Model:
        if self.hidden_size % self.num_attention_heads or self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size must be num_attention_heads times an even head size")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        return self


class Optimizer(Section):
    """AdamW (Loshchilov and Hutter 2019)."""

    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(0.95, ge=0, lt=1, description="Decay of the second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the denominator.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay.")
    no_weight_decay: list[str] = Field(["embed_tokens"], description="Parameters whose name has one of these: none.")
    clip_grad_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this global norm.")


class Schedule(Section):
    """Learning rate over a run: linear warm-up from 0, then a constant part, then a decay (WSD, cosine, linear)."""

    peak: float = Field(..., gt=0, description="Learning rate after warm-up.")
    warmup_steps: Count = Field(0, ge=0, description="Steps of linear warm-up.")
    decay_steps: Count | None = Field(
        None, ge=0, description="Steps of decay at the run's end; null: all after warm-up."
    )
    decay_shape: Literal["linear", "cosine", "1-sqrt"] = Field("linear", description="Form of the decay.")
    floor: float = Field(0.0, ge=0, description="Learning rate at the end.")


class Stage(Section):
    """A span of pretraining with one mixture."""

    name: Name = Field(..., description="Such as stage1; used in paths.")
    steps: Count = Field(..., ge=1, description="Optimizer steps.")
    mixture: Weights = Field(..., description="Weight of each source; normalised to sum 1.")


class Pretraining(Section):
    """Stages 1 to 3: one run with one schedule, cut into segments."""

    sequence_length: Length = Field(..., ge=8, description="Tokens a sequence.")
    global_batch: Count = Field(..., ge=1, description="Sequences per optimizer step, over all devices.")
    segment_steps: Count = Field(
        ..., ge=1, description="A segment is at most this many steps, and ends in a checkpoint."
    )
    milestone_steps: Count | None = Field(
        None, ge=1, description="Weights are kept, and evaluated, at every multiple of this many steps too."
    )
    optimizer: Optimizer = Field(Optimizer(), description="The optimizer, for long context too.")
    schedule: Schedule = Field(..., description="Learning rate over all stages.")
    stages: list[Stage] = Field(..., min_length=1, description="In order.")


class LongContext(Stage):
    """An extension to longer sequences: raised RoPE theta and a schedule of its own."""

    sequence_length: Length = Field(..., ge=8, description="Tokens a sequence.")
    global_batch: Count = Field(..., ge=1, description="Sequences per optimizer step.")
    rope_theta: float = Field(..., gt=0, description="RoPE base of this extension.")
    schedule: Schedule = Field(..., description="Learning rate of this extension.")
    fresh_optimizer: bool = Field(True, description="Start the optimizer's state anew instead of going on with it.")
