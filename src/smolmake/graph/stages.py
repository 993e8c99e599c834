"""The stages of a recipe in the order of work: how people call each, and to which part of the work it belongs.

Nobody else may tell a stage by its name: stages of pretraining and extensions have the names that the recipe gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from smolmake.recipe.schema import Recipe

StageSection = Literal[
    "data", "tokenizer", "preflight", "pretraining", "long_context", "mid_training", "sft", "apo", "merge", "report"
]
BEFORE: dict[str, StageSection] = {"data": "data", "tokenizer": "tokenizer", "preflight": "preflight"}
AFTER: dict[str, tuple[StageSection, str, str]] = {
    "mid": ("mid_training", "mid-training", "mid"),
    "sft": ("sft", "SFT", "SFT"),
    "apo": ("apo", "APO", "APO"),
    "merge": ("merge", "merge", "merge"),
    "report": ("report", "report", "report"),
}


@dataclass(frozen=True)
class GraphStage:
    """A stage by its name in `Step.stage`; `title` stands in sentences, `short` on axes."""

    name: str
    section: StageSection
    title: str
    short: str

    @property
    def pretrains(self) -> bool:
        """Whether it is a stage of pretraining or a long-context extension."""
        return self.section in ("pretraining", "long_context")

    @property
    def post_trains(self) -> bool:
        return self.section in ("mid_training", "sft", "apo", "merge")


def recipe_stages(recipe: Recipe) -> dict[str, GraphStage]:
    """All stages that a recipe's steps can belong to, by name."""
    stages = [GraphStage(name, section, name, name) for name, section in BEFORE.items()]
    if recipe.pretraining is not None:
        stages += [GraphStage(stage.name, "pretraining", stage.name, stage.name) for stage in recipe.pretraining.stages]
    stages += [GraphStage(stage.name, "long_context", stage.name, stage.name) for stage in recipe.long_context]
    stages += [GraphStage(name, *about) for name, about in AFTER.items()]
    return {stage.name: stage for stage in stages}
