"""Results that no recipe reaches any more: lists them with their sizes, and deletes them only when told to.

    python -m smolmake.plan.gc [--delete] [RECIPE ...]

Recipes are those of config/recipes and those that are named. A result is reached if a recipe, as it is now with its
pins and the code as it is now, leads to it. Nothing that a running job holds is deleted.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from smolmake.errors import UserError, run_as_program
from smolmake.identity.manifest import MANIFEST
from smolmake.identity.steps import build_steps
from smolmake.plan.history import FOLDER
from smolmake.recipe.load import load_recipe, read_yaml


@dataclass(frozen=True)
class Unreached:
    """A folder under results/ that no recipe leads to. `bytes` does not count what links lead to."""

    folder: Path
    bytes: int
    finished: bool


def reached_keys(recipes: Iterable[str], root: Path) -> set[str]:
    """The keys of all steps of these recipes.

    Raises:
        UserError: if one of them cannot be read: what it reaches is then not known.
    """
    found: set[str] = set()
    for name in recipes:
        try:
            found |= set(build_steps(load_recipe(name, root), root).all)
        except UserError as error:
            raise UserError(
                f"a recipe cannot be laid out ({error.what}), so nobody knows what it reaches",
                file=error.file or name, key=error.key, value=error.value,
                remedy=f"{error.remedy} (or move the recipe out of config/recipes): until then nothing is deleted",
            ) from None  # fmt: skip
    return found


def all_recipes(root: Path) -> list[str]:
    """The files of config/recipes that are recipes of their own: bases to extend have no name."""
    files = sorted((root / "config" / "recipes").glob("*.yaml"))
    return [str(file) for file in files if "name" in read_yaml(file)]


def unreached(reached: set[str], root: Path) -> list[Unreached]:
    """All folders results/<kind>/<name>-<id> that are not among the reached ones, the largest first."""
    found = []
    for folder in sorted((root / "results").glob("*/*")):
        key = f"{folder.parent.name}/{folder.name}"
        if folder.parent.name == "latest" or not folder.is_dir() or not FOLDER.fullmatch(folder.name) or key in reached:
            continue
        size = sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
        found.append(Unreached(folder, size, (folder / MANIFEST).exists()))
    return sorted(found, key=lambda entry: -entry.bytes)


def delete(entry: Unreached) -> bool:
    """Delete a folder, its manifest first, so that it is never taken for whole. False if a running job holds it."""
    lock = entry.folder / ".lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        (entry.folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(entry.folder)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="recipes outside of config/recipes, by path")
    parser.add_argument("--delete", action="store_true", help="delete what is listed")
    arguments = parser.parse_args()
    root = Path.cwd()
    recipes = [*all_recipes(root), *arguments.recipes]
    found = unreached(reached_keys(recipes, root), root)
    if not found:
        print(f"Every result is reached by one of {len(recipes)} recipes.")
        return
    kept = 0
    for entry in found:
        held = arguments.delete and not delete(entry)
        kept += held
        state = "in use, kept" if held else "" if entry.finished else "unfinished"
        print(f"{entry.bytes / 1e6:12,.1f} MB  {entry.folder.relative_to(root)}  {state}".rstrip())
    total = sum(entry.bytes for entry in found)
    verb = "deleted" if arguments.delete else "reached by no recipe"
    print(f"{total / 1e6:12,.1f} MB in {len(found) - kept} results: {verb}")
    if not arguments.delete:
        print("Delete them with: make gc DELETE=yes. Recipes kept elsewhere are named with RECIPES=path.yaml.")


if __name__ == "__main__":
    run_as_program(main)
