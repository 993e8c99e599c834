"""What the steps of post-training are made from."""

from __future__ import annotations

from functools import partial
from operator import eq
from typing import Literal

from pydantic import Field

from smolmake.execution.step import Spec
from smolmake.graph.specs.data import DatasetSpec
from smolmake.graph.specs.runs import DeviceRun
from smolmake.recipe.posttraining import TrainingSettings

OnError = Literal["stop", "skip"]


class PostTrainingRun(DeviceRun):
    """`micro_batch` is the largest number of rows in a forward pass where the layout says none."""

    micro_batch: int


class ConversationsSpec(Spec):
    """A dataset of which a share of the rows is used."""

    files: DatasetSpec
    fraction: float = 1.0
    on_error: OnError = Field("stop", exclude_if=partial(eq, "stop"))
    may_lose: list[str] = Field([], exclude_if=partial(eq, []))


class SupervisedSpec(Spec):
    """Mid-training or SFT."""

    training: TrainingSettings
    seed: int
    loss: Literal["all", "assistant"]
    packing: Literal["none", "bfd", "wrapped"]
    template: str
    data: dict[str, ConversationsSpec]


class PreferencesSpec(Spec):
    """Pairs of answers of two checkpoints."""

    prompts: DatasetSpec
    on_error: OnError = Field("stop", exclude_if=partial(eq, "stop"))
    template: str | None
    max_new_tokens: int
    temperature: float
    seed: int


class AlignmentSpec(Spec):
    """APO: preference optimisation."""

    training: TrainingSettings
    seed: int
    beta: float
    data: dict[str, ConversationsSpec]


class MergeSpec(Spec):
    """Weights of models, whose sum is 1."""

    weights: dict[str, float]
