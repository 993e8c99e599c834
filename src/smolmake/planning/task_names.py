"""The tasks that the lm-evaluation-harness has, found without loading it, which takes half a minute."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, fields
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smolmake.errors import UserError, did_you_mean
from smolmake.execution.remembered import remember, remembered
from smolmake.planning.task_needs import Needs, task_needs
from smolmake.recipe.schema import Recipe

# A line that names a task, a group or a tag, and one that is an entry of a list of them.
NAMING = re.compile(rb"^[ \t]*(?:-[ \t]*|(?:-[ \t]*)?\"?(?:task|group|tag)\"?[ \t]*:)([^\n:]*)$", re.MULTILINE)


REMEMBERED = Path(".smolmake") / "harness_tasks.json"


def check_task_names(recipe: Recipe, root: Path) -> None:
    """Raise UserError for a task of a suite that no file of the harness names, that needs a package which is not here,
    or that runs what the model writes where there is no sandbox, and for a revision of what no task of its suite reads.
    """
    needs = suite_needs(recipe, root)
    for key, (task, needed) in needs.items():
        _check_needs(needed, key, task)
    pinned: dict[str, tuple[str, str]] = {}
    for name, suite in recipe.evaluation.suites.items() if needs else ():
        key = f"evaluation.suites.{name}."
        known = {data for at, (_, needed) in needs.items() if at.startswith(key) for data in needed.datasets}
        for data, commit in suite.revisions.items():
            if data not in known:
                raise UserError(
                    "no task of the suite reads this data set", key=f"{key}revisions", value=data,
                    remedy=did_you_mean(data, sorted(known)) if known else "remove it: they read none of the hub",
                )  # fmt: skip
            other, place = pinned.setdefault(data, (commit, name))
            if other != commit:
                raise UserError(
                    f"the suite {place} reads another commit of this data set: {other}",
                    key=f"{key}revisions.{data}", value=commit, remedy="give both suites one commit",
                )  # fmt: skip


def revision_warnings(recipe: Recipe, root: Path) -> list[str]:
    """A line on data sets of suites' tasks whose commit neither the recipe nor the task says."""
    loose: dict[str, str] = {}
    for key, (_, needed) in suite_needs(recipe, root).items():
        name = key.removeprefix("evaluation.suites.").rpartition(".tasks.")[0]
        pinned = recipe.evaluation.suites[name].revisions
        loose |= {data: name for data, commit in needed.datasets.items() if commit is None and data not in pinned}
    if not loose:
        return []
    listed = ", ".join(sorted(loose)[:3]) + (f" and {len(loose) - 3} more" if len(loose) > 3 else "")
    data, name = min(loose.items())
    return [
        f"of {len(loose)} data sets that suites ask ({listed}) the scores are of what the hub has that day. To ask the"
        f" same again, pin them: evaluation.suites.{name}.revisions: {{{data}: COMMIT}}"
    ]


def suite_needs(recipe: Recipe, root: Path) -> dict[str, tuple[str, Needs]]:
    """The tasks of the harness in suites and what they need, by their keys; nothing where the harness is not here.

    Its files are searched only for tasks that this version of it was not found to have before.

    Raises:
        UserError: if no file of the harness names a task.
    """
    asked = {
        f"evaluation.suites.{name}.tasks.{number}": task
        for name, suite in recipe.evaluation.suites.items()
        for number, task in enumerate(suite.tasks)
    }
    if not asked or find_spec("lm_eval") is None:
        return {}
    version = " ".join((metadata.version("lm_eval"), *(field.name for field in fields(Needs))))
    kept = remembered(root / REMEMBERED).get(version)
    needs: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}
    if not needs.keys() >= set(asked.values()):
        for key, task in asked.items():
            if task not in harness_names():
                raise UserError(
                    "the lm-evaluation-harness has no such task", key=key, value=task,
                    remedy=did_you_mean(task, harness_names()),
                )  # fmt: skip
            needs[task] = asdict(task_needs(task, mentions()))
        remember(root / REMEMBERED, {version: needs})
    return {key: (task, Needs(**needs[task])) for key, task in asked.items()}


def _check_needs(needs: Needs, key: str, task: str) -> None:
    if needs.missing:
        raise UserError(
            f"the task `{task}` needs packages that are not installed: {', '.join(needs.missing)}", key=key, value=task,
            remedy="run `make setup` again, which installs what the project's recipes need; for other tasks install "
            "them (pip install -c constraints.txt PACKAGE), or take the task out",
        )  # fmt: skip
    if needs.outside:
        raise UserError(
            f"{', '.join(needs.outside)} runs what the model writes in a way of its own, outside a sandbox",
            key=key, value=task, remedy="take the task out of the suite",
        )  # fmt: skip
    if needs.unsafe:
        from smolmake.evaluate.sandbox import find_sandbox  # which tries it

        try:
            find_sandbox()
        except UserError as error:
            raise UserError(error.what, key=key, value=task, remedy=error.remedy) from None


def harness_names() -> frozenset[str]:
    """What may be a task, a group or a tag of the harness: all of them, and some words more."""
    return frozenset(mentions())


@cache
def mentions() -> dict[str, list[Path]]:
    """The files of the harness in which each of its names, and some words more, may be one of a task, group or tag."""
    found: dict[str, list[Path]] = {}
    package = find_spec("lm_eval")
    for place in (package.submodule_search_locations or []) if package is not None else []:
        for folder, _, files in os.walk(Path(place) / "tasks"):
            for file in files:
                if file.endswith(("yaml", "yml")) or "." not in file:
                    path = Path(folder) / file
                    words = b" ".join(NAMING.findall(path.read_bytes())).decode(errors="replace")
                    for word in set(re.findall(r"[^\s\"',\[\]#]+", words)):
                        found.setdefault(word, []).append(path)
    return found
