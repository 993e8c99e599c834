"""The recipe's schema. Every key has a description; docs/reference/recipe.md is made from them."""

from __future__ import annotations

from functools import partial
from operator import eq
from typing import Any

from pydantic import Field

from smolmake.recipe.evaluation import Evaluation
from smolmake.recipe.expectations import Expectations
from smolmake.recipe.posttraining import Apo, Merge, Preferences, SupervisedTraining
from smolmake.recipe.pretraining import BaseModelFiles, LongContext, Model, Pretraining
from smolmake.recipe.runtime import CostSettings, Runtime
from smolmake.recipe.sources import Cleaning, Generated, Source, Tokenizer
from smolmake.recipe.types import Filled, KindName, Name, Section, Seed


class Recipe(Section):
    """One model from data to report."""

    name: Name = Field(..., description="Readable links stand under results/latest/<name>/.")
    title: str = Field("", description="Heading of the report.")
    description: str = Field("", description="A few sentences for the report.")
    seed: Seed = Field(0, description="Of initial weights, order of data and sampling in post-training.")
    base: BaseModelFiles | None = Field(None, description="A model to start from instead of random weights.")
    generated: dict[Name, Generated] = Field({}, description="Data that programs of yours write, by name.")
    sources: dict[Name, Source] = Field({}, description="Datasets by name.")
    cleaning: Cleaning = Field(Cleaning(), description="Filters and decontamination.")
    tokenizer: Tokenizer | None = Field(None, description="The tokenizer and its rivals; a base model has its own.")
    model: Model | None = Field(None, description="The architecture; a base model has its own.")
    pretraining: Pretraining | None = Field(None, description="Stages 1 to 3.")
    long_context: list[LongContext] = Field([], description="Extensions after stage 3, in order.")
    mid_training: SupervisedTraining | None = Field(None, description="Reasoning mid-training.")
    sft: SupervisedTraining | None = Field(None, description="Supervised fine-tuning.")
    preferences: Preferences | None = Field(None, description="Pairs made by two checkpoints.")
    apo: Apo | None = Field(None, description="Preference optimisation.")
    merge: Merge | None = Field(None, description="The last model.")
    evaluation: Evaluation = Field(Evaluation(), description="Suites and samples.")
    expectations: Expectations = Field(Expectations(), description="What the steps should do, for the report.")
    library_versions: dict[KindName, list[Filled]] = Field(
        {},
        exclude_if=partial(eq, {}),
        description="Libraries whose installed versions count in the identity of steps, by kind: {segment: [torch]}. "
        "The plan tells of all others without running anything again.",
    )
    runtime: Runtime = Field(Runtime(), description="Machine settings.")
    cost: CostSettings = Field(CostSettings(), description="What the plan calculates with, and the budget.")

    def printed(self) -> dict[str, Any]:
        """The recipe as its report prints it: without `runtime`, which decides no result."""
        return self.model_dump(mode="json", exclude={"runtime"})
