"""The recipe's section on evaluation."""

from __future__ import annotations

from functools import partial
from operator import eq
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from smolmake.recipe.sources import Argument, Files
from smolmake.recipe.types import Count, FilePath, Filled, Length, Name, Problem, Section


class HarnessTasks(Section):
    """Tasks of the lm-evaluation-harness, and how they are asked."""

    tasks: list[Filled] = Field(..., min_length=1, description="Names of tasks or groups of the harness.")
    shots: Count | None = Field(None, ge=0, description="Examples before the question; null: as the task says.")
    limit: Count | None = Field(None, ge=1, description="Items per task at most; null: all.")
    chat: bool = Field(False, description="Ask through the chat template, as of post-trained checkpoints.")
    system: str = Field("", description="System message of the chat, such as /think or /no_think.")
    generation: dict[str, Argument] = Field(
        {}, description="Settings of generation instead of the tasks' own, such as `temperature: 0.6`."
    )
    repeats: Count = Field(
        1,
        ge=1,
        exclude_if=partial(eq, 1),
        description="Answers sampled for each item, of which the scores are averaged.",
    )
    lengths: list[Annotated[Length, Field(ge=1)]] = Field(
        [], description="Context lengths of tasks that are made to a length, such as ruler."
    )


class Suite(HarnessTasks):
    """Tasks of the lm-evaluation-harness itself, which fetches their data from the hub."""

    tokens: Count | None = Field(
        None, ge=1, description="Tokens of all its requests, counted or estimated. For the plan alone."
    )
    answer_tokens: Count | None = Field(
        None, ge=0, description="Tokens of the answers that the model writes, where it writes any. For the plan alone."
    )
    on: Literal["all", "stage_ends", "chat"] = Field(
        "all", description="Which checkpoints: all; ends of stages and all post-training; post-training alone."
    )
    decontamination: Literal["filter", "measure"] | None = Field(
        None,
        description="What is done about its tasks' items in the sources; null: as `cleaning` says. `measure` adds a "
        "suite to what was trained already.",
    )


class Evaluation(Section):
    """What every checkpoint is measured on."""

    tasks: FilePath | None = Field(
        None, description="A folder of lm-evaluation-harness task files, from the project's root."
    )
    data: Files | None = Field(None, description="The folder that holds the tasks' data files.")
    limit: Count | None = Field(None, ge=1, description="Items per task at most; null: all.")
    suites: dict[Name, Suite] = Field({}, description="Tasks of the harness by suite; each suite is a job of its own.")
    heldout_documents: Count = Field(60, ge=1, description="Held-out documents per source for the loss.")
    prompts: list[str] = Field(["The "], description="What base checkpoints continue for the report's samples.")
    chat_prompts: list[str] = Field([], description="What all checkpoints answer for the report's samples.")

    @model_validator(mode="after")
    def _data_is_local(self) -> Self:
        if self.data is not None and self.data.hub is not None:
            raise ValueError("`data` is a folder of yours: give its `path`; tasks with data of the hub are `suites`")
        if self.data is not None and self.data.format != "auto":
            raise ValueError("the formats of `data` are told by its files' names: leave `format` out")
        return self

    @model_validator(mode="after")
    def _tasks_are_there(self, info: ValidationInfo) -> Self:
        if info.context is None or self.tasks is None:
            return self
        if not any((info.context["root"] / self.tasks).glob("*.yaml")):
            remedy = "name a folder with *.yaml files of lm-evaluation-harness; it is taken from the project's root"
            raise Problem("there is no folder of task files", key="tasks", remedy=remedy)
        if self.data is None:
            remedy = "give the folder of the tasks' data files, such as `data: {path: my-tasks}`"
            raise Problem("evaluation tasks without data", key="data", remedy=remedy)
        return self
