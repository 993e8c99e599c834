"""What the steps of post-training are made from."""

from __future__ import annotations

from typing import Literal

from smolmake.execution.step import Spec
from smolmake.graph.specs.data import DatasetSpec
from smolmake.graph.specs.runs import DeviceRun
from smolmake.recipe.posttraining import TrainingSettings


class PostTrainingRun(DeviceRun):
    """`micro_batch` is the largest number of rows in a forward pass where the layout says none."""

    micro_batch: int


class ConversationsSpec(Spec):
    """A dataset of which a share of the rows is used."""

    files: DatasetSpec
    fraction: float = 1.0


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
