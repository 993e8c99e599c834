"""Results that no recipe reaches any more: lists them with their sizes, and deletes them only when told to.

    smolmake gc
    smolmake gc path/recipe.yaml --delete
    smolmake gc --states

Recipes are those of config/recipes and examples, and those that are named. A result is reached if a recipe, as it
is now with its pins and the code as it is now, leads to it, or if it belongs to the last run of any recipe, whole or
under way, as results/latest says. What a running job holds is neither listed nor deleted. Recovery checkpoints of a
finished result, which a job that was killed at its very end leaves, are listed too.

With `--states` it lists the optimizer states of finished segments that no segment waits for.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from smolmake.errors import UserError
from smolmake.execution.lease import LOCK
from smolmake.execution.manifest import MANIFEST
from smolmake.execution.step import Steps
from smolmake.files import lock_file
from smolmake.graph.build import build_steps
from smolmake.monitoring.run_state import owner
from smolmake.planning.history import BEGUN, FOLDER
from smolmake.planning.optimizer_states import remove_state, spare_states
from smolmake.recipe.load import load_recipe, named_recipes
from smolmake.yaml_files import read_yaml


@dataclass(frozen=True)
class Unneeded:
    """A folder under results/ that no recipe needs. `bytes` does not count what links lead to."""

    folder: Path
    step: Path
    bytes: int
    what: str


def steps_of_recipes(recipes: Iterable[str], root: Path) -> list[Steps]:
    """The steps of these recipes.

    Raises:
        UserError: if one of them cannot be read: what it reaches is then not known.
    """
    found = []
    for name in recipes:
        try:
            found.append(build_steps(load_recipe(name, root), root))
        except UserError as error:
            raise UserError(
                f"a recipe cannot be laid out ({error.what}), so nobody knows what it reaches",
                file=error.file or name, key=error.key, value=error.value,
                remedy=f"{error.remedy} (or move the recipe elsewhere): until then nothing is deleted",
            ) from None  # fmt: skip
    return found


def all_recipes(root: Path) -> list[str]:
    """The files of config/recipes and examples that are recipes of their own: bases to extend have no name."""
    return [str(file) for file in named_recipes(root).values() if "name" in read_yaml(file)]


def latest(root: Path) -> set[str]:
    """The steps of the last runs of all recipes, wherever their files lie: finished runs, and those that were begun."""
    found: set[str] = set()
    for file in (root / "results" / "latest").glob("*/*.json"):
        if file.name == BEGUN or file.name.startswith("links-"):
            try:
                found |= set(json.loads(file.read_text()).values())
            except (OSError, ValueError, AttributeError, TypeError):
                raise UserError(
                    "this list of a run's results cannot be read, so nobody knows what the run reaches", file=file,
                    remedy="run that recipe again, or delete the file; until then nothing is deleted",
                ) from None  # fmt: skip
    return found


def unneeded(reached: set[str], root: Path) -> list[Unneeded]:
    """All folders results/<kind>/<name>-<id> that are not reached, and recovery checkpoints of finished ones that are.

    None that a job holds; the largest first.
    """
    found = []
    for step in sorted((root / "results").glob("*/*")):
        if step.parent.name == "latest" or not step.is_dir() or not FOLDER.fullmatch(step.name):
            continue
        finished = (step / MANIFEST).exists()
        folder, what = step, "" if finished else "unfinished"
        if f"{step.parent.name}/{step.name}" in reached:
            folder, what = step / "recovery", "the result is whole"
            if not finished or not folder.is_dir():
                continue
        if owner(step) is None:
            size = sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
            found.append(Unneeded(folder, step, size, what))
    return sorted(found, key=lambda entry: -entry.bytes)


def delete(entry: Unneeded) -> bool:
    """Delete a folder, its manifest first, so that it is never taken for whole. False if a job holds the step."""
    with lock_file(entry.step / LOCK, wait=False) as free:
        if free:
            (entry.folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(entry.folder)
        return free


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="recipes that lie elsewhere, by path")
    parser.add_argument("--states", action="store_true", help="optimizer states that no segment waits for")
    parser.add_argument("--delete", action="store_true", help="delete what is listed")


def run(arguments: argparse.Namespace) -> None:
    root = Path.cwd()
    recipes = [*all_recipes(root), *arguments.recipes]
    steps = steps_of_recipes(recipes, root)
    if arguments.states:
        _tell_states(spare_states(steps, root), arguments.delete, root)
        return
    found = unneeded({key for each in steps for key in each.all} | latest(root), root)
    if not found:
        print(f"Every result is reached by one of {len(recipes)} recipes, or by the last run of another.")
        return
    kept = 0
    for entry in found:
        in_use = arguments.delete and not delete(entry)
        kept += in_use
        what = "in use, kept" if in_use else entry.what
        print(f"{entry.bytes / 1e6:12,.1f} MB  {entry.folder.relative_to(root)}  {what}".rstrip())
    total = sum(entry.bytes for entry in found)
    verb = "deleted" if arguments.delete else "needed by no recipe"
    print(f"{total / 1e6:12,.1f} MB in {len(found) - kept} folder{'' if len(found) - kept == 1 else 's'}: {verb}")
    if not arguments.delete:
        print("Recipes outside config/recipes and examples are not looked at, only their last runs (results/latest):")
        print("name each, or what it reaches may go too: smolmake gc path.yaml other.yaml. Add --delete to delete.")


def _tell_states(found: list[Path], deleting: bool, root: Path) -> None:
    total, count = 0, 0
    for file in found:
        size = file.stat().st_size
        in_use = deleting and not remove_state(file)
        total, count = total + size * (not in_use), count + (not in_use)
        print(f"{size / 1e6:12,.1f} MB  {file.relative_to(root)}  {'in use, kept' if in_use else ''}".rstrip())
    verb = "deleted" if deleting else "needed by no segment that is still to run"
    print(f"{total / 1e6:12,.1f} MB in {count} optimizer state{'' if count == 1 else 's'}: {verb}")
    if found and not deleting:
        print("Delete them with: smolmake gc --states --delete. A segment added behind one later needs it.")
