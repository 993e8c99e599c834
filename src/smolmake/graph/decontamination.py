"""What the sources are searched for: the items of every task that the recipe evaluates on.

A task is filtered against, or its overlap is counted by a step beside the documents, so that it can be added without
touching what was trained. Tasks that are made to a length have no items of their own before they are asked.
"""

from __future__ import annotations

from typing import Literal

from smolmake.execution.step import Step, Steps
from smolmake.graph.datasets import files_spec
from smolmake.graph.specs.data import FileDataset, OverlapSpec, SuiteItemsSpec
from smolmake.recipe.evaluation import Suite
from smolmake.recipe.schema import Recipe

How = Literal["filter", "measure"]
NAMES: dict[How, str] = {"filter": "filtered", "measure": "measured"}


def items_to(steps: Steps, recipe: Recipe, how: How, inputs: dict[str, Step]) -> tuple[FileDataset | None, list[str]]:
    """The task files that are filtered against, or measured, and their recipe keys; the suites' go to `inputs`."""
    keys: list[str] = []
    tasks = None
    if recipe.evaluation.data is not None and recipe.cleaning.decontamination == how:
        tasks = files_spec(steps, recipe.evaluation.data, inputs, "tasks")
        keys += ["evaluation.data"]
    if names := suite_tasks(recipe, how):
        suites = recipe.evaluation.suites
        read = [f"evaluation.suites.{name}.{key}" for name in suites for key in ("tasks", "decontamination")]
        inputs[f"suite_items:{NAMES[how]}"] = steps.add(
            "suite_items", NAMES[how], SuiteItemsSpec(tasks=names), {}, "data", (*read, "cleaning.decontamination")
        )
    return tasks, keys


def suite_tasks(recipe: Recipe, how: How) -> list[str]:
    """The suites' tasks and groups that are filtered against, or that are measured because no suite filters them."""
    filtered, measured = (
        {task for suite in recipe.evaluation.suites.values() if _how(suite, recipe) == each for task in suite.tasks}
        for each in NAMES
    )
    return sorted(filtered if how == "filter" else measured - filtered)


def _how(suite: Suite, recipe: Recipe) -> How | None:
    return None if suite.lengths else suite.decontamination or recipe.cleaning.decontamination


def add_overlaps(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> None:
    """A step for each source's documents that counts the items that are only measured."""
    for name, made in documents.items():
        _add_overlap(steps, recipe, name, {"documents": made}, ("measure",))


def add_overlap_of_shards(steps: Steps, recipe: Recipe, name: str, shards: Step, tokenizer: Step) -> None:
    """A step that counts all items in adopted shards, where nothing can be dropped any more."""
    _add_overlap(steps, recipe, name, {"shards": shards, "tokenizer": tokenizer}, ("filter", "measure"))


def _add_overlap(steps: Steps, recipe: Recipe, name: str, searched: dict[str, Step], hows: tuple[How, ...]) -> None:
    """A step that counts items in what is `searched`, if there are any to count."""
    inputs, tasks = dict(searched), None
    keys = ["cleaning.decontaminate_ngram"]
    for how in hows:
        files, read = items_to(steps, recipe, how, inputs)
        tasks, keys = files or tasks, keys + read
    if tasks is not None or len(inputs) > len(searched):
        spec = OverlapSpec(ngram=recipe.cleaning.decontaminate_ngram, tasks=tasks)
        steps.add("overlap", name, spec, inputs, "data", tuple(keys))
