"""Whether the recipe's own task files say the same to the harness, which reads YAML 1.1, as to whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import yaml

from smolmake.errors import UserError
from smolmake.recipe.schema import Recipe
from smolmake.yaml_files import told_differently

KEY = "evaluation.tasks"


def check_task_files(recipe: Recipe, root: Path) -> None:
    """Raise UserError for a value in a task file that YAML 1.1 takes for something else, and for an `include` of what
    is not among the task files: it would be in no step's identity.

    What is no YAML at all is told by the steps that read it.
    """
    if recipe.evaluation.tasks is None:
        return
    folder = root / recipe.evaluation.tasks
    for file in sorted(folder.glob("*.yaml")):
        try:
            text = file.read_text(encoding="utf-8")
            node, differing = yaml.compose(text), list(told_differently(text))
        except (ValueError, yaml.YAMLError):
            continue
        for key, value, line, otherwise in differing:
            raise UserError(
                f"the harness reads this otherwise than a recipe would, by the rules of YAML 1.1: as {otherwise}",
                file=f"{file}:{line}", key=key, value=value,
                remedy=f"put a text in quotes: '{value}'; or write true, false, or a number in plain digits",
            )  # fmt: skip
        for included in _included(node):
            if not included.endswith(".yaml") or not (folder / included).is_file() or Path(included).name != included:
                raise UserError(
                    "a task file can include other files of its folder alone, named *.yaml: what lies elsewhere would"
                    " be in no step's identity",
                    file=file, key="include", value=included, remedy=f"copy it into {recipe.evaluation.tasks}",
                )  # fmt: skip


def _included(node: yaml.Node | None) -> list[str]:
    """The files that a task file says it includes."""
    if not isinstance(node, yaml.MappingNode):
        return []
    found = [value for key, value in node.value if key.value == "include"]
    return [
        str(each.value)
        for value in found
        for each in (value.value if isinstance(value, yaml.SequenceNode) else [value])
    ]
