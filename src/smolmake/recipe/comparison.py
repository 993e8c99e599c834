"""What a recipe's checkpoints are compared with: models that exist, and numbers that others have published."""

from __future__ import annotations

from pydantic import Field

from smolmake.recipe.pretraining import BaseModelFiles
from smolmake.recipe.types import Filled, Measured, Section, SuiteName


class MeasuredModel(BaseModelFiles):
    """A model that exists, measured on all that the recipe's own checkpoints are measured on."""

    chat: bool = Field(
        False, description="It answers through its tokenizer's own chat template: suites with `chat` are asked too."
    )


class PublishedScore(Section):
    """A number of a paper or a model card, and the score here that it is to be compared with."""

    suite: SuiteName | None = Field(None, description="The suite that has the task; null: a task of the recipe's own.")
    task: Filled = Field(..., description="The task or group.")
    metric: Filled = Field(..., description="The metric, by the harness's name, such as `acc_norm`.")
    filter: Filled | None = Field(None, description="The filter, where the task has several.")
    value: float = Field(..., description="The published number.")


class Published(Section):
    """Numbers that others have published of a model that is measured here."""

    source: Filled = Field(..., description="Where they stand, such as a paper's table or a model card with its date.")
    at: Measured = Field(..., description="The checkpoint or model of which they are: a name as in `expectations`.")
    percent: bool = Field(True, description="Whether what lies between 0 and 1 here is published in percent.")
    scores: list[PublishedScore] = Field(..., min_length=1, description="The numbers.")
