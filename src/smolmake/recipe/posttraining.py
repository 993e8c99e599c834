"""The recipe's sections on what follows pretraining: conversations, preferences, merging."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from smolmake.recipe.sources import Files
from smolmake.recipe.types import (
    Answering,
    ChatTemplate,
    Checkpoint,
    Count,
    Filled,
    Fraction,
    Length,
    Name,
    Rate,
    Section,
    Seed,
    Weight,
)


class RowFiles(Files):
    """A dataset of conversations, pairs or prompts."""

    on_error: Literal["stop", "skip"] = Field(
        "stop", description="What a row does that cannot be trained: stop the run, or be left out and counted."
    )


class Conversations(RowFiles):
    """A dataset of conversations or pairs, in one of the forms of docs/how-to/conversations.md."""

    fraction: Fraction = Field(1.0, description="Share of its rows to use, drawn with the recipe's seed.")
    may_lose: list[Filled] = Field(
        [],
        description="Pieces of its rows that the chat template may leave out: content, reasoning, tool_calls, tools, "
        "or an argument of the template. Any other piece that is lost stops the run; these are counted.",
    )


class TrainingSettings(Section):
    """How a model is trained on rows."""

    learning_rate: Rate = Field(..., description="Peak; cosine down to a tenth of it.")
    epochs: float = Field(1.0, gt=0, le=10_000, description="Passes over the data.")
    global_batch_size: Count = Field(..., ge=1, description="Rows per optimizer step, over all devices.")
    max_length: Length = Field(..., ge=8, description="Longer rows are cut to this many tokens.")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps that warm up.")
    clip_grad_norm: float = Field(0.2, gt=0, description="Gradients are scaled down to this global norm.")


class PostTraining(TrainingSettings):
    """What mid-training, SFT and APO have in common. They run through TRL."""

    seed: Seed | None = Field(None, description="Of the order of its rows; null takes the recipe's.")


class SupervisedTraining(PostTraining):
    """Mid-training (loss on all tokens) or SFT (loss on assistant tokens)."""

    data: dict[Name, Conversations] = Field(..., min_length=1, description="Datasets by name.")
    loss: Literal["all", "assistant"] = Field(..., description="Which tokens are targets.")
    chat_template: ChatTemplate = Field(..., description="A file under config/templates.")
    packing: Literal["none", "bfd", "wrapped"] = Field(
        "none", description="Rows joined to max_length: best fit, or cut where they end. None pads."
    )


class Preferences(Section):
    """Preference pairs answered by two checkpoints: the stronger one's answer is chosen, the weaker one's rejected."""

    prompts: RowFiles = Field(..., description="A dataset with a `prompt` column, optionally `chat_template_kwargs`.")
    strong: Answering = Field("sft", validate_default=True, description="The checkpoint whose answers are chosen.")
    weak: Answering = Field("mid", validate_default=True, description="The checkpoint whose answers are rejected.")
    max_new_tokens: Count = Field(64, ge=1, description="Length limit of an answer.")
    temperature: float = Field(0.7, ge=0, description="Sampling temperature of both; 0 is greedy.")


class Apo(PostTraining):
    """Anchored preference optimisation, APO-zero (D'Oosterlinck et al. 2024), against the SFT model."""

    beta: float = Field(0.1, gt=0, description="Strength of the anchor to the reference model.")
    data: dict[Name, Conversations] = Field(
        {}, description="Datasets with `prompt`, `chosen`, `rejected` beside the pairs."
    )
    soup: Count = Field(1, ge=1, le=100, description="Runs with seeds of their own, whose weights are then averaged.")


class Merge(Section):
    """A linear merge of checkpoints, parameter by parameter."""

    weights: dict[Checkpoint, Weight] = Field(
        ..., min_length=2, description="Checkpoint name and weight; normalised to sum 1."
    )
