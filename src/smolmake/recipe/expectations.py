"""The recipe's section on what its steps should do: the report says of each expectation whether it holds."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from smolmake.recipe.types import (
    Count,
    Domain,
    Filled,
    Measured,
    Name,
    Section,
    SuiteName,
    Surpassed,
    TextSource,
    TrainedStage,
    exactly_one,
)

CHANCE = "chance"


class Expectation(Section):
    """What all expectations have."""

    text: str = Field(..., min_length=1, description="The expectation in a sentence, for the report.")


class LossExpectation(Expectation):
    """A training loss that falls: the first tenth of a stage's steps against the last."""

    stage: TrainedStage = Field(..., description="A stage of pretraining or long context, or `mid`, `sft`, `apo`.")
    by: float = Field(0.0, ge=0, description="How far it should fall at least.")


class HeldoutExpectation(Expectation):
    """The loss on held-out documents at a checkpoint, in bits per byte; a `domain` or `sources` take a part of it."""

    at: Measured = Field(..., description="The checkpoint: a stage (its end), `base`, `mid`, `sft`, `apo` or `merged`.")
    below: Measured | Annotated[float, Field(gt=0)] | None = Field(
        None, description="Lower than at this checkpoint, or than this number."
    )
    not_above: Measured | None = Field(None, description="Not measurably higher than at this checkpoint.")
    domain: Domain | None = Field(None, description="Only sources of this domain; null: of all.")
    sources: list[TextSource] = Field([], description="Only these sources; empty: all.")

    @model_validator(mode="after")
    def _one_comparison(self) -> Self:
        return exactly_one(self, "below", "not_above")


class ScoreExpectation(Expectation):
    """A score at a checkpoint. Compared with another checkpoint, it is so item by item where both have the items."""

    at: Measured = Field(..., description="The checkpoint: a stage (its end), `base`, `mid`, `sft`, `apo` or `merged`.")
    task: Filled | None = Field(None, description="The task; null: the mean over all tasks of the suite.")
    suite: SuiteName | None = Field(
        None, description="The suite that the task belongs to; null: the recipe's own tasks."
    )
    metric: Filled | None = Field(None, description="The metric, such as `acc`; null: each of the task's own.")
    filter: Filled | None = Field(
        None, description="The filter that answers went through, such as `strict-match`; null: each that the task has."
    )
    above: Surpassed | Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Higher than at this checkpoint, than this number (0 to 1), or than `chance`."
    )
    not_below: Measured | None = Field(None, description="Not measurably lower than at this checkpoint.")

    @model_validator(mode="after")
    def _one_comparison(self) -> Self:
        if self.task is None and (self.suite is None or self.metric is None):
            raise ValueError("give `task`, or `suite` and `metric`")
        return exactly_one(self, "above", "not_below")


class CleaningExpectation(Expectation):
    """Documents that cleaning should drop, such as duplicates that were planted."""

    source: TextSource = Field(..., description="The source.")
    reason: Literal[
        "too_short", "too_long", "invalid_unicode", "repeated_ngrams", "exact_duplicate", "near_duplicate",
        "contaminated",
    ] = Field(..., description="What they are dropped for.")  # fmt: skip
    at_least: Count = Field(..., ge=1, description="How many of them at least.")


class Expectations(Section):
    """What the steps should do, by names that you choose. No result but the report depends on it."""

    cleaning: dict[Name, CleaningExpectation] = Field({}, description="Of cleaning.")
    losses: dict[Name, LossExpectation] = Field({}, description="Of training losses.")
    heldout: dict[Name, HeldoutExpectation] = Field({}, description="Of losses on held-out documents.")
    scores: dict[Name, ScoreExpectation] = Field({}, description="Of scores.")
