"""The tasks that the lm-evaluation-harness has, found without loading it, which takes half a minute."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from smolmake.errors import UserError, did_you_mean
from smolmake.planning.remembered import remember, remembered
from smolmake.recipe.schema import Recipe

# A line that names a task, a group or a tag, and one that is an entry of a list of them.
NAMING = re.compile(rb"^[ \t]*(?:-[ \t]*|(?:-[ \t]*)?\"?(?:task|group|tag)\"?[ \t]*:)([^\n:]*)$", re.MULTILINE)


REMEMBERED = Path(".smolmake") / "harness_tasks.json"


def check_task_names(recipe: Recipe, root: Path) -> None:
    """Raise UserError for a task of a suite that no file of the harness names.

    Its files are searched only for tasks that this version of it was not found to have before.
    """
    asked = {
        f"evaluation.suites.{name}.tasks.{number}": task
        for name, suite in recipe.evaluation.suites.items()
        for number, task in enumerate(suite.tasks)
    }
    if not asked or find_spec("lm_eval") is None:
        return
    version, kept = metadata.version("lm_eval"), remembered(root / REMEMBERED)
    sure = set(kept.get(version, ()))
    if sure.issuperset(asked.values()):
        return
    for key, task in asked.items():
        if task not in harness_names():
            raise UserError(
                "the lm-evaluation-harness has no such task", key=key, value=task,
                remedy=did_you_mean(task, harness_names()),
            )  # fmt: skip
    remember(root / REMEMBERED, {version: sorted(sure.union(asked.values()))})


@cache
def harness_names() -> frozenset[str]:
    """What may be a task, a group or a tag of the harness: all of them, and some words more."""
    names: set[str] = set()
    package = find_spec("lm_eval")
    for place in (package.submodule_search_locations or []) if package is not None else []:
        for folder, _, files in os.walk(Path(place) / "tasks"):
            for file in files:
                if file.endswith(("yaml", "yml")) or "." not in file:
                    for line in NAMING.findall((Path(folder) / file).read_bytes()):
                        names.update(re.findall(r"[^\s\"',\[\]#]+", line.decode(errors="replace")))
    return frozenset(names)
