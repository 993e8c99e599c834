"""Read a recipe: overlays, validation, and errors that name file, key, value and remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from smolmake.errors import UserError, did_you_mean
from smolmake.recipe.schema import Recipe
from smolmake.recipe.types import Problem
from smolmake.recipe.validate import check_recipe, known_names
from smolmake.yaml_files import read_yaml

RENAMED = {  # keys that were called otherwise, for the remedy where a recipe still has one
    "run": "runtime",
    "compute": "cost",
    "peak": "lr",
    "rate": "lr",
    "floor": "min_lr",
    "batch": "global_batch_size",
    "global_batch": "global_batch_size",
    "share": "fraction",
    "stands_in_for": "replaces",
    "heldout_share": "heldout_fraction",
    "at_most": "max_rollbacks",
    "compare": "compare_sizes",
    "rivals": "compare_with",
    "toy": "generated",
}
FRAGMENTS = {"sources": "sources", "model": "models"}  # keys that may name a file under config/<folder>


def load_recipe(recipe: str, root: Path) -> Recipe:
    """Load the recipe of that name under `root`, or the file that `recipe` is the path of.

    Raises:
        UserError: for anything that is wrong with it.
    """
    path = find_recipe(recipe, root)
    values = read_with_overlays(path, root)
    try:
        loaded = Recipe.model_validate(values)
        loaded = Recipe.model_validate(values, context=known_names(loaded, root))
        check_recipe(loaded, root)
    except ValidationError as error:
        raise explain(error, path, values) from None
    except UserError as error:
        error.file = error.file or path
        raise
    return loaded


def find_recipe(recipe: str, root: Path) -> Path:
    """The recipe's file: a name (see `named_recipes`), or a path from the working folder or the root."""
    if recipe.endswith((".yaml", ".yml")):
        for place in (Path(recipe), root / recipe):
            if place.is_file():
                return place
    named = named_recipes(root)
    if recipe in named:
        return named[recipe]
    raise UserError(
        "there is no such recipe",
        key="recipe",
        value=recipe,
        remedy=did_you_mean(recipe, sorted(named)) + " A path must end in .yaml and exist.",
    )


def named_recipes(root: Path) -> dict[str, Path]:
    """The recipes that have a name: config/recipes/NAME.yaml, and examples/NAME/recipe.yaml."""
    examples = {file.parent.name: file for file in sorted((root / "examples").glob("*/recipe.yaml"))}
    return examples | {file.stem: file for file in sorted((root / "config" / "recipes").glob("*.yaml"))}


def read_with_overlays(path: Path, root: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's values laid over those of the recipe that it `extends`, and of that one's, and so on."""
    if path.resolve() in seen:
        raise UserError("recipes extend each other in a circle", file=path, key="extends", remedy="break the circle")
    values = read_yaml(path)
    for key, folder in FRAGMENTS.items():
        if isinstance(values.get(key), str):
            values[key] = read_yaml(_fragment(values[key], folder, key, path, root))
    base = values.pop("extends", None)
    if base is None:
        return values
    try:
        base_file = find_recipe(str(base), root)
    except UserError as error:
        raise UserError(error.what, file=path, key="extends", value=base, remedy=error.remedy) from None
    base_values = read_with_overlays(base_file, root, (*seen, path.resolve()))
    return overlay(base_values, values)


def overlay(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it: mappings merge key by key, lists and values are replaced, null removes."""
    merged = dict(base)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = overlay(merged[key], value)
        else:
            merged[key] = value
    return merged


def explain(error: ValidationError, path: Path, values: dict[str, Any]) -> UserError:
    """The first problem of a validation in the user's terms, with the keys of the next."""
    first, *others = error.errors()
    told, location = first.get("ctx", {}).get("error"), _keys(first["loc"], values)
    value, what = first["input"], first["msg"].removeprefix("Value error, ")
    section = ".".join(part for part in location if not part.isdigit())
    remedy = told.remedy if isinstance(told, Problem) else f"see `{section}` in docs/reference/recipe.md"
    if first["type"] == "extra_forbidden":
        valid, renamed = valid_keys(location[:-1]), RENAMED.get(location[-1])
        what = "unknown key"
        remedy = f"it is called `{renamed}` now" if renamed in valid else did_you_mean(location[-1], valid)
    elif first["type"] == "string_type" and isinstance(value, int | float):
        remedy = f"put it in quotes: '{value}'; {remedy}"
    elif first["type"] == "missing":
        what, remedy, value = "a required key is missing", f"add it; {remedy}", None
    elif isinstance(told, Problem) and told.key:
        location, value = [*location, told.key], value.get(told.key)
    elif isinstance(value, dict):  # of a section the keys that the message names
        named = [key for key in value if re.search(rf"\b{re.escape(str(key))}\b", what)]
        value = ", ".join(f"{key}: {value[key]}" for key in named) or value
    if others:
        more = [".".join(_keys(other["loc"], values)) for other in others[:3]]
        remedy += f" ({len(others)} more: {', '.join(more)})"
    return UserError(what, file=path, key=".".join(location), value=value, remedy=remedy)


def _keys(location: tuple[int | str, ...], values: Any) -> list[str]:
    """The keys of a place in the recipe; pydantic adds what it tried there, and of a mapping's name the name."""
    if location[-1] == "[key]":
        return _keys(location[:-2], values) if len(location) > 2 else []
    keys, inner = [], values
    for part in location:
        if not isinstance(inner, dict | list):
            break
        keys.append(str(part))
        inner = inner.get(part) if isinstance(inner, dict) else inner[int(part)]
    return keys


def valid_keys(location: list[str]) -> list[str]:
    """The keys that the schema knows at a place such as ["pretraining", "stages", "0"]."""
    schema = Recipe.model_json_schema()
    part = schema
    for key in location:
        part = part.get("properties", {}).get(key) or part.get("additionalProperties") or part.get("items") or {}
        part = next((choice for choice in part.get("anyOf", []) if choice != {"type": "null"}), part)
        part = schema["$defs"].get(part.get("$ref", "").rpartition("/")[2], part)
    return list(part.get("properties", {}))


def _fragment(name: str, folder: str, key: str, recipe: Path, root: Path) -> Path:
    known = sorted(file.stem for file in (root / "config" / folder).glob("*.yaml"))
    if name not in known:
        raise UserError("there is no such file", file=recipe, key=key, value=name, remedy=did_you_mean(name, known))
    return root / "config" / folder / f"{name}.yaml"
