"""Expectations that name what the recipe does not have are refused before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from smolmake.errors import UserError, did_you_mean
from smolmake.recipe.evaluation import Suite
from smolmake.recipe.expectations import CHANCE, ScoreExpectation
from smolmake.recipe.schema import Recipe

CHAT_CHECKPOINTS = ("mid", "sft", "apo", "merged")
Named = tuple[str, str, Iterable[str], str]  # key, name, what there is, and what it is called


def check_expectations(recipe: Recipe, checkpoints: list[str], path: Path, root: Path) -> None:
    """Raise UserError for an expectation of a checkpoint, task, suite or source that the recipe does not have."""
    if recipe.merge is not None:
        checkpoints = [*checkpoints, "merged"]
    for key, name, known, what in _named(recipe, checkpoints, root):
        if name not in known:
            remedy = did_you_mean(name, known) if known else f"add one, or remove `{key.rpartition('.')[0]}`"
            raise UserError(f"the recipe has no such {what}", file=path, key=key, value=name, remedy=remedy)
    for name, expectation in recipe.expectations.scores.items():
        suite = recipe.evaluation.suites.get(expectation.suite or "")
        for field in ("at", "above", "not_below"):
            checkpoint = getattr(expectation, field)
            if suite is not None and checkpoint in checkpoints and not _measures(suite, checkpoint):
                raise UserError(
                    "the suite does not measure this checkpoint", file=path,
                    key=f"expectations.scores.{name}.{field}", value=checkpoint,
                    remedy=f"name one of {', '.join(CHAT_CHECKPOINTS)}, or set `on: all` for the suite",
                )  # fmt: skip


def _named(recipe: Recipe, checkpoints: list[str], root: Path) -> Iterator[Named]:
    """Every name in the expectations, with the names that there are."""
    expectations, trained = recipe.expectations, [name for name in checkpoints if name not in ("base", "merged")]
    heldout = [name for name, source in recipe.sources.items() if source.shards is None]
    for name, cleaning in expectations.cleaning.items():
        yield f"expectations.cleaning.{name}.source", cleaning.source, heldout, "source to clean"
    for name, loss in expectations.losses.items():
        yield f"expectations.losses.{name}.stage", loss.stage, trained, "stage"
    for name, text in expectations.heldout.items():
        key = f"expectations.heldout.{name}"
        yield f"{key}.at", text.at, checkpoints, "checkpoint"
        for field, other in (("below", text.below), ("not_above", text.not_above)):
            if isinstance(other, str):
                yield f"{key}.{field}", other, checkpoints, "checkpoint"
        if text.domain is not None:
            yield f"{key}.domain", text.domain, sorted({recipe.sources[name].domain for name in heldout}), "domain"
        for source in text.sources:
            yield f"{key}.sources", source, heldout, "source with held-out text"
    for name, score in expectations.scores.items():
        key = f"expectations.scores.{name}"
        yield f"{key}.at", score.at, checkpoints, "checkpoint"
        for field, other in (("above", score.above), ("not_below", score.not_below)):
            if isinstance(other, str) and (field, other) != ("above", CHANCE):
                yield f"{key}.{field}", other, checkpoints, "checkpoint"
        yield from _tasks(recipe, key, score, root)


def _tasks(recipe: Recipe, key: str, score: ScoreExpectation, root: Path) -> Iterator[Named]:
    suites = recipe.evaluation.suites
    if score.suite is not None:
        yield f"{key}.suite", score.suite, list(suites), "suite"
    if score.task is not None:
        known = own_tasks(recipe, root) if score.suite is None else suites[score.suite].tasks
        yield f"{key}.task", score.task, known, "task" if score.suite is None else f"task in the suite {score.suite}"


def own_tasks(recipe: Recipe, root: Path) -> list[str]:
    """The names of the recipe's own tasks, as their files say."""
    if recipe.evaluation.tasks is None:
        return []
    files = sorted((root / recipe.evaluation.tasks).glob("*.yaml"))
    # The base loader passes over tags such as `!function` and makes plain text of everything.
    read = [yaml.load(file.read_text(), Loader=yaml.BaseLoader) for file in files]  # noqa: S506
    return [task["task"] for task in read if isinstance(task, dict) and "task" in task]


def _measures(suite: Suite, checkpoint: str) -> bool:
    return checkpoint in CHAT_CHECKPOINTS or not (suite.chat or suite.on == "chat")
