"""What the sources are searched for: the items of every task that the recipe evaluates on.

A task is filtered against, or its overlap is counted by a step beside the documents, so that it can be added without
touching what was trained. Tasks that are made to a length have no items of their own before they are asked.
"""

from __future__ import annotations

from typing import Literal

from smolmake.execution.step import Step, Steps
from smolmake.graph.datasets import files_spec
from smolmake.graph.specs.data import FileDataset, GeneratedDataset, OverlapSpec, SuiteItemsSpec
from smolmake.recipe.evaluation import Suite
from smolmake.recipe.schema import Recipe

How = Literal["filter", "measure"]
NAMES: dict[How, str] = {"filter": "filtered", "measure": "measured"}


def items_to(steps: Steps, recipe: Recipe, how: How, inputs: dict[str, Step]) -> tuple[FileDataset | None, list[str]]:
    """The task files that are filtered against, or measured, and their recipe keys; the suites' go to `inputs`.

    A suite's tasks are measured only where no suite filters them.
    """
    keys, tasks = list[str](), None
    if recipe.evaluation.data is not None and recipe.cleaning.decontamination == how:
        tasks = files_spec(steps, recipe.evaluation.data, inputs, "tasks")
        keys += ["evaluation.data"]
    filtered, measured = (
        [suite for suite in recipe.evaluation.suites.values() if _how(suite, recipe) == each] for each in NAMES
    )
    asked, others = (filtered, []) if how == "filter" else (measured, filtered)
    names = sorted(_tasks(asked) - _tasks(others))
    elsewhere = _questions(steps, others)
    questions = [found for key, found in sorted(_questions(steps, asked).items()) if key not in elsewhere]
    if names or questions:
        read = [
            f"evaluation.suites.{n}.{key}"
            for n in recipe.evaluation.suites
            for key in ("tasks", "questions", "revisions", "decontamination")
        ]
        revisions = {data: commit for suite in asked for data, commit in suite.revisions.items()}
        spec = SuiteItemsSpec(
            tasks=names, questions=[data for data, _ in questions] or None, revisions=revisions or None
        )
        reads = {f"data:{number}": made for number, (_, made) in enumerate(questions) if made is not None}
        inputs[f"suite_items:{NAMES[how]}"] = steps.add(
            "suite_items", NAMES[how], spec, reads, "data", (*read, "cleaning.decontamination")
        )
    return tasks, keys


def _tasks(suites: list[Suite]) -> set[str]:
    return {task for suite in suites for task in suite.tasks}


def _questions(steps: Steps, suites: list[Suite]) -> dict[str, tuple[FileDataset, Step | None]]:
    """The suites' own questions, each once however many suites ask them, and the step that generates them."""
    found: dict[str, tuple[FileDataset, Step | None]] = {}
    for suite in suites:
        if suite.questions is not None:
            made: dict[str, Step] = {}
            data = files_spec(steps, suite.questions, made, "data")
            found[data.generated if isinstance(data, GeneratedDataset) else data.content] = data, made.get("data")
    return found


def _how(suite: Suite, recipe: Recipe) -> How | None:
    return None if suite.lengths else suite.decontamination or recipe.cleaning.decontamination


def add_overlap(steps: Steps, recipe: Recipe, name: str, searched: dict[str, Step], hows: tuple[How, ...]) -> None:
    """A step that counts items in what is `searched` of a source, if there are any to count."""
    inputs, tasks = dict(searched), None
    keys = ["cleaning.decontaminate_ngram"]
    for how in hows:
        files, read = items_to(steps, recipe, how, inputs)
        tasks, keys = files or tasks, keys + read
    if tasks is not None or len(inputs) > len(searched):
        spec = OverlapSpec(ngram=recipe.cleaning.decontaminate_ngram, tasks=tasks)
        steps.add("overlap", name, spec, inputs, "data", tuple(keys))
