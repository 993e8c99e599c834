"""The recipe's section on evaluation."""

from __future__ import annotations

from functools import partial
from operator import eq
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, ValidationInfo, model_validator

from smolmake.recipe.comparison import MeasuredModel, Published
from smolmake.recipe.sources import Argument, Files
from smolmake.recipe.types import Count, FilePath, Filled, Length, Name, Problem, Section


class HarnessTasks(Section):
    """Tasks of the lm-evaluation-harness, and how they are asked."""

    tasks: list[Filled] = Field([], description="Names of tasks or groups of the harness.")
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
        le=1024,
        exclude_if=partial(eq, 1),
        description="Answers sampled for each item, over which scores are averaged (avg@k), with pass@k beside. A step "
        "gives 8 of them: more can be added to those that are there.",
    )
    lengths: list[Annotated[Length, Field(ge=1)]] = Field(
        [], description="Context lengths of tasks that are made to a length, such as ruler."
    )
    revisions: dict[str, Filled] = Field(
        {},
        exclude_if=partial(eq, {}),
        description="Commits of the tasks' data sets on the hub, such as `Rowan/hellaswag: 218ec52`; of others what "
        "the hub has that day.",
    )


Formulation = Literal["cf", "mcf", "hybrid", "fg"]
PROMPT = "Question: {question}\n{choices}Answer:"


class Questions(Files):
    """Questions of yours, each a row with `question`, `answer` and, where there is a choice, `choices`."""

    ask: list[Formulation] = Field(
        [],
        description="How they are asked, each way a task NAME_WAY of the file NAME: cf (the likeliest of the choices "
        "after the question), mcf (of their letters), hybrid (of the choices, shown with letters), fg (the answer is "
        "written). Empty: cf where there are choices, else fg.",
    )
    prompt: Filled = Field(
        PROMPT,
        description="What the model reads; {choices} are lines of letters and choices in mcf and hybrid, else nothing.",
    )
    delimiter: str = Field(
        " ", exclude_if=partial(eq, " "), description="What stands between the prompt and the answer."
    )

    @model_validator(mode="after")
    def _is_a_prompt(self) -> Self:
        shows = bool({"mcf", "hybrid"} & set(self.ask))
        for needed in ("{question}", *(["{choices}"] if shows else [])):
            if needed not in self.prompt:
                raise Problem(f"the prompt lacks {needed}", key="prompt", remedy=f"write it such as {PROMPT!r}")
        if self.delimiter and self.prompt[-1].isspace():
            remedy = "take it away: `delimiter` stands between the prompt and the answer"
            raise Problem("the prompt ends in a space or a line's end", key="prompt", remedy=remedy)
        return self

    @model_validator(mode="after")
    def _is_local(self) -> Self:
        if self.hub is not None or self.format in ("text", "code"):
            remedy = "give a `path` of JSONL, CSV or Parquet, or what is `generated`; data of the hub are `tasks`"
            raise Problem("questions are files of rows", key="hub" if self.hub is not None else "format", remedy=remedy)
        return self


Kind = Literal[
    "niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3",
    "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2",
]  # fmt: skip


class Ruler(Section):
    """RULER's questions, made to the suite's `lengths` from a text; `limit` of each kind and length, else 50."""

    kinds: list[Kind] = Field(list(get_args(Kind)), min_length=1, description="Kinds of questions.")
    text: FilePath | None = Field(
        None, description="Text files that needles are hidden in; null: the recipe's held-out documents."
    )
    yarn: bool = Field(False, description="Ask lengths beyond the trained one of a copy with YaRN.")


class Suite(HarnessTasks):
    """What is asked together: tasks of the lm-evaluation-harness, which fetches their data from the hub, questions of
    yours, or RULER's, made here."""

    questions: Questions | None = Field(None, description="Your own questions instead of tasks of the harness.")
    ruler: Ruler | None = Field(None, description="RULER's questions, made from your text, instead of tasks.")
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

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if bool(self.tasks) + (self.questions is not None) + (self.ruler is not None) != 1:
            raise ValueError("give one of `tasks` (names of the harness's), `questions` (a file of yours) and `ruler`")
        if self.ruler is not None and not self.lengths:
            raise Problem("questions of RULER are made to lengths", key="lengths", remedy="give some: lengths: [4k]")
        return self


class Evaluation(Section):
    """What every checkpoint is measured on."""

    tasks: FilePath | None = Field(
        None, description="A folder of lm-evaluation-harness task files, from the project's root."
    )
    data: Files | None = Field(None, description="The folder that holds the tasks' data files.")
    limit: Count | None = Field(None, ge=1, description="Items per task at most; null: all.")
    suites: dict[Name, Suite] = Field({}, description="Tasks of the harness by suite; each suite is a job of its own.")
    models: dict[Name, MeasuredModel] = Field(
        {}, description="Models that exist, by name, measured beside the recipe's own checkpoints, or alone."
    )
    published: dict[Name, Published] = Field(
        {}, description="Published numbers, by a name, that the report shows beside what was measured."
    )
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
