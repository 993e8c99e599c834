"""The tasks that the lm-evaluation-harness has, found without loading it, which takes half a minute."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from smolmake.errors import UserError, did_you_mean
from smolmake.recipe.schema import Recipe

# A line that names a task, a group or a tag, and one that is an entry of a list of them.
NAMING = re.compile(rb"^[ \t]*(?:-[ \t]*|(?:-[ \t]*)?\"?(?:task|group|tag)\"?[ \t]*:)([^\n:]*)$", re.MULTILINE)


def check_task_names(recipe: Recipe) -> None:
    """Raise UserError for a task of a suite that no file of the harness names."""
    for name, suite in recipe.evaluation.suites.items():
        for number, task in enumerate(suite.tasks):
            known = harness_names()
            if known and task not in known:
                raise UserError(
                    "the lm-evaluation-harness has no such task", key=f"evaluation.suites.{name}.tasks.{number}",
                    value=task, remedy=did_you_mean(task, known),
                )  # fmt: skip


@cache
def harness_names() -> frozenset[str]:
    """What may be a task, a group or a tag: all of them, and some words more. Empty where there is no harness."""
    names: set[str] = set()
    package = find_spec("lm_eval")
    for place in (package.submodule_search_locations or []) if package is not None else []:
        for folder, _, files in os.walk(Path(place) / "tasks"):
            for file in files:
                if file.endswith(("yaml", "yml")) or "." not in file:
                    for line in NAMING.findall((Path(folder) / file).read_bytes()):
                        names.update(re.findall(r"[^\s\"',\[\]#]+", line.decode(errors="replace")))
    return frozenset(names)
