"""Results that no recipe reaches any more: lists them with their sizes, and moves them to a trash only when told to.

    smolmake gc
    smolmake gc path/recipe.yaml --delete
    smolmake gc --states
    smolmake gc --empty-trash

Recipes are those of config/recipes and examples, and those that are named. A result is reached if a recipe, as it
is now with its pins and the code as it is now, leads to it or names it by its path (adopted shards and models, a
tokenizer, any data set), or if it belongs to the last run of any recipe, whole or under way, as results/latest says.
What a running job holds is neither listed nor moved. Recovery checkpoints of a finished result, which a job that was
killed at its very end leaves, are listed too.

What `--delete` takes away lies in results/.trash, from where a folder can be moved back, until `--empty-trash`.

With `--states` it lists the optimizer states of finished segments that no segment waits for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from smolmake.errors import UserError
from smolmake.execution.lease import LOCK
from smolmake.execution.manifest import MANIFEST, note_removed
from smolmake.execution.other_names import BEGUN
from smolmake.execution.step import Steps
from smolmake.files import lock_file
from smolmake.graph.build import build_steps
from smolmake.monitoring.run_state import owner
from smolmake.planning.history import FOLDER, named_results
from smolmake.planning.optimizer_states import OPTIMIZER_STATE, TRASH, spare_states
from smolmake.recipe.load import load_recipe, named_recipes
from smolmake.yaml_files import read_yaml


@dataclass(frozen=True)
class Unneeded:
    """A step's folder, or what lies in it, that nobody needs. `bytes` does not count what links lead to."""

    path: Path
    step: Path
    bytes: int
    what: str


def reached_by(recipes: Iterable[str], root: Path) -> tuple[list[Steps], set[str]]:
    """The steps of these recipes, and the keys of all results that they lead to or name by a path.

    Raises:
        UserError: if one of them cannot be read: what it reaches is then not known.
    """
    found, reached = [], set[str]()
    for name in recipes:
        try:
            found.append(build_steps(load_recipe(name, root), root))
        except UserError as error:
            raise UserError(
                f"a recipe cannot be laid out ({error.what}), so nobody knows what it reaches",
                file=error.file or name, key=error.key, value=error.value,
                remedy=f"{error.remedy} (or move the recipe elsewhere): until then nothing is deleted",
            ) from None  # fmt: skip
        reached |= {*found[-1].all, *named_results(found[-1].values, root)}
    return found, reached


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
            found.append(Unneeded(folder, step, size_of(folder), what))
    return sorted(found, key=lambda entry: -entry.bytes)


def throw_away(path: Path, step: Path, results: Path) -> bool:
    """Move a step's folder, or what lies in it, to the trash. False if a job holds the step."""
    place = results / TRASH / path.relative_to(results)
    with lock_file(step / LOCK, wait=False) as free:
        if free:
            if (name := path.relative_to(step).as_posix()) == OPTIMIZER_STATE:
                note_removed(step, {name}, "no segment that was still to run needed it")
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():
                shutil.rmtree(place)  # an earlier result of the same id
            os.replace(path, place)
        return free


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files under a folder without what links lead to."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="recipes that lie elsewhere, by path")
    parser.add_argument("--states", action="store_true", help="optimizer states that no segment waits for")
    parser.add_argument("--delete", action="store_true", help="move what is listed to the trash")
    parser.add_argument("--empty-trash", action="store_true", help="delete what lies in the trash")


def run(arguments: argparse.Namespace) -> None:
    root = Path.cwd()
    trash = root / "results" / TRASH
    if arguments.empty_trash:
        freed = size_of(trash) if trash.is_dir() else 0
        shutil.rmtree(trash, ignore_errors=True)
        print(f"{freed / 1e6:12,.1f} MB freed: the trash is empty")
        return
    recipes = [*all_recipes(root), *arguments.recipes]
    steps, reached = reached_by(recipes, root)
    if arguments.states:
        states = [Unneeded(file, file.parents[1], size_of(file), "") for file in spare_states(steps, root)]
        _tell(states, "optimizer state", "needed by no segment that is still to run", arguments.delete, root)
        if states and not arguments.delete:
            print("Delete them with: smolmake gc --states --delete. A segment added behind one later needs it.")
    elif found := unneeded(reached | latest(root), root):
        _tell(found, "folder", "needed by no recipe", arguments.delete, root)
        if not arguments.delete:
            print("Recipes outside config/recipes and examples are not looked at, only their last runs")
            print("(results/latest): name each, or what it reaches may go too: smolmake gc path.yaml other.yaml.")
            print("Add --delete to move what is listed to the trash.")
    else:
        print(f"Every result is reached by one of {len(recipes)} recipes, or by the last run of another.")
    if trash.is_dir():
        size = size_of(trash) / 1e6
        print(f"{size:12,.1f} MB in results/{TRASH}: move back what you need, or smolmake gc --empty-trash")


def _tell(found: list[Unneeded], noun: str, why: str, deleting: bool, root: Path) -> None:
    """List what was found, and move it to the trash if told to."""
    gone = 0
    for entry in found:
        in_use = deleting and not throw_away(entry.path, entry.step, root / "results")
        gone += not in_use
        what = "in use, kept" if in_use else entry.what
        print(f"{entry.bytes / 1e6:12,.1f} MB  {entry.path.relative_to(root)}  {what}".rstrip())
    count = f"{gone} {noun}{'' if gone == 1 else 's'}"
    total = sum(entry.bytes for entry in found)
    print(f"{total / 1e6:12,.1f} MB in {count}: {'moved to the trash' if deleting else why}")
