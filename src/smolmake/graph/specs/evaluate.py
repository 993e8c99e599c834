"""What evaluations and the report are made from."""

from __future__ import annotations

from typing import Any

from smolmake.execution.step import Place, Spec
from smolmake.graph.specs.data import FileDataset
from smolmake.graph.specs.runs import DeviceRun
from smolmake.recipe.evaluation import Formulation, HarnessTasks, Kind


class TaskFiles(Spec):
    """A folder of task files, with the digest of their content, and the data that they ask."""

    folder: Place
    content: str
    data: FileDataset


class QuestionFiles(Spec):
    """Questions of the user's, and how they are asked."""

    data: FileDataset
    ask: list[Formulation]
    prompt: str
    delimiter: str


class RulerQuestions(Spec):
    """Kinds of RULER's questions, the text that they are made from, or None for held-out documents, and whether
    lengths beyond the trained one are asked with YaRN."""

    kinds: list[Kind]
    text: FileDataset | None
    yarn: bool


class EvaluationSpec(Spec):
    """What a checkpoint is measured on; `milestone`: of a segment's, not its last one. `heldout_tokens` is how much of
    a held-out document is read."""

    tasks: TaskFiles | None
    limit: int | None
    prompts: list[str]
    chat_prompts: list[str]
    template: str | None
    heldout_tokens: int | None
    milestone: int | None = None


class SuiteSpec(Spec):
    """A suite that a checkpoint is measured on: tasks of the harness, `questions`, or RULER's.

    `first` is the number of the first answer to each item, where steps before it give others.
    """

    harness: HarnessTasks
    questions: QuestionFiles | None = None
    ruler: RulerQuestions | None = None
    template: str | None
    milestone: int | None = None
    first: int | None = None

    @property
    def name_of_part(self) -> str:
        """What a step's name ends in if steps before it give other answers to the same items."""
        return f".from-{self.first}" if self.first else ""


class SuiteRun(DeviceRun):
    """`suite` is the suite's name in the recipe."""

    suite: str


class CheckTasksSpec(Spec):
    """All tasks of a recipe."""

    tasks: TaskFiles | None
    template: str | None
    suites: dict[str, SuiteSpec]


class ReportSpec(Spec):
    """What the report says beside the steps' results: the `recipe` as it prints it, and why steps are pinned, by their
    labels."""

    recipe: dict[str, Any]
    pins: dict[str, str] | None = None
