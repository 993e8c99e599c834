"""Whether another recipe has a recipe's `name`: both would write the same results/latest, and call steps alike."""

from __future__ import annotations

from pathlib import Path

from smolmake.errors import UserError
from smolmake.recipe.load import named_recipes, read_with_overlays


def name_warnings(name: str, file: Path, root: Path) -> list[str]:
    """A line for each other recipe of config/recipes and examples that has this name, its own or of what it extends."""
    return [
        f"the recipe {_told(other, root)} has the name `{name}` too, as {_told(file, root)} has: results/latest/{name}"
        " and the reports of that name show whichever ran last. Give one of them another `name`"
        for other in named_recipes(root).values()
        if other.resolve() != file.resolve() and _name(other, root) == name
    ]


def _name(file: Path, root: Path) -> object:
    try:
        return read_with_overlays(file, root).get("name")
    except UserError:  # who plans it is told what is wrong with it
        return None


def _told(file: Path, root: Path) -> str:
    return str(file.relative_to(root) if file.is_relative_to(root) else file)
