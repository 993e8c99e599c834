"""What the sources are searched for: the items of every task that the recipe evaluates on.

A task is filtered against, or its overlap is counted by a step beside the documents, so that it can be added without
touching what was trained. Tasks that are made to a length have no items of their own before they are asked.
"""

from __future__ import annotations

from typing import Any, Literal

from smolmake.execution.step import Step, Steps
from smolmake.graph.datasets import place
from smolmake.recipe.evaluation import Suite
from smolmake.recipe.schema import Recipe

How = Literal["filter", "measure"]
NAMES: dict[How, str] = {"filter": "filtered", "measure": "measured"}


def add_items(steps: Steps, recipe: Recipe, how: How, spec: dict[str, Any], inputs: dict[str, Step]) -> tuple[str, ...]:
    """Put the items that are filtered against, or measured, into a step's spec and inputs; returns their keys."""
    keys: tuple[str, ...] = ()
    if recipe.evaluation.data is not None and recipe.cleaning.decontamination == how:
        spec["tasks"] = place(steps, recipe.evaluation.data, inputs, "tasks")
        keys += ("evaluation.data",)
    if tasks := suite_tasks(recipe, how):
        told = tuple(
            f"evaluation.suites.{name}.{key}"
            for name in recipe.evaluation.suites
            for key in ("tasks", "decontamination")
        )
        inputs[f"suite_items:{NAMES[how]}"] = steps.add(
            "suite_items", NAMES[how], {"tasks": tasks}, {}, "data", (*told, "cleaning.decontamination")
        )
    return keys


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
        spec: dict[str, Any] = {"ngram": recipe.cleaning.decontaminate_ngram}
        inputs = {"documents": made}
        keys = add_items(steps, recipe, "measure", spec, inputs)
        if len(inputs) > 1 or "tasks" in spec:
            steps.add("overlap", name, spec, inputs, "data", ("cleaning.decontaminate_ngram", *keys))


def add_overlap_of_shards(steps: Steps, recipe: Recipe, name: str, shards: Step, tokenizer: Step) -> None:
    """A step that counts all items in adopted shards, where nothing can be dropped any more."""
    spec: dict[str, Any] = {"ngram": recipe.cleaning.decontaminate_ngram}
    inputs = {"shards": shards, "tokenizer": tokenizer}
    keys = tuple(key for how in NAMES for key in add_items(steps, recipe, how, spec, inputs))
    if len(inputs) > 2 or "tasks" in spec:
        steps.add("overlap", name, spec, inputs, "data", ("cleaning.decontaminate_ngram", *keys))
