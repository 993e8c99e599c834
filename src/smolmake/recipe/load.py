"""Read a recipe: overlays, validation, and errors that name file, key, value and remedy."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from smolmake.errors import UserError, did_you_mean
from smolmake.recipe.schema import Recipe
from smolmake.recipe.types import Problem
from smolmake.recipe.validate import check_recipe, known_names
from smolmake.yaml_files import line_of, read_yaml

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
NOT = {  # what a value of another type is not
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "invalid_key": "a text, as keys are",
}
FRAGMENTS = {"sources": "sources", "model": "models"}  # keys that may name a file under config/<folder>
SUITES_FROM = "suites_from"  # beside `suites`: files of config/suites


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
        raise locate(explain(error, values), path, root) from None
    except UserError as error:
        raise locate(error, path, root) from None
    return loaded


def find_recipe(recipe: str, root: Path) -> Path:
    """The recipe's file: a name (see `named_recipes`), or a path from the working folder or the root."""
    if recipe.endswith((".yaml", ".yml")):
        for place in (Path(recipe), root / recipe):
            if os.path.isfile(place):  # which is false, too, of a name that no file can have
                return place
    known, name = named_recipes(root), unicodedata.normalize("NFC", recipe)
    if name in known:
        return known[name]
    raise UserError(
        "there is no such recipe",
        key="recipe",
        value=recipe,
        remedy=did_you_mean(recipe, sorted(known)) + " A path must end in .yaml and exist.",
    )


def named_recipes(root: Path) -> dict[str, Path]:
    """The recipes that have a name: config/recipes/NAME.yaml, and examples/NAME/recipe.yaml.

    Raises:
        UserError: if two names look alike: they differ by case only, or by how an accent is encoded.
    """
    found: dict[str, Path] = {}
    for folder, pattern in (("examples", "*/recipe.yaml"), ("config/recipes", "*.yaml")):
        alike: dict[str, Path] = {}
        for file in sorted((root / folder).glob(pattern)):
            name = unicodedata.normalize("NFC", file.parent.name if folder == "examples" else file.stem)
            if name.casefold() in alike:
                what = f"two recipes have names that look alike: this one and {alike[name.casefold()]}"
                raise UserError(what, file=file, key="recipe", value=name, remedy="rename one of them")
            alike[name.casefold()] = found[name] = file
    return found


def read_with_overlays(path: Path, root: Path) -> dict[str, Any]:
    """The file's values laid over those of the recipe that it `extends`, and of that one's, and so on."""
    values: dict[str, Any] = {}
    for layer in reversed(list(_layers(path, root))):
        inner = layer.values
        for key in reversed(layer.key.split(".") if layer.key else []):
            inner = {key: inner}
        values = overlay(values, inner)
    return values


class Layer(NamedTuple):
    """A file that a recipe is made of, and the dotted key that it stands for; "" for a whole recipe."""

    file: Path
    key: str
    values: dict[str, Any]


def _layers(path: Path, root: Path, seen: tuple[Path, ...] = ()) -> Iterator[Layer]:
    """The files that a recipe is made of, those on top first."""
    if path.resolve() in seen:
        raise UserError("recipes extend each other in a circle", file=path, key="extends", remedy="break the circle")
    values = read_yaml(path)
    base = values.pop("extends", None)
    fragments = {key: values.pop(key) for key in FRAGMENTS if isinstance(values.get(key), str)}
    suites = _named_suites(values, path, root)
    yield Layer(path, "", values)
    for key, name in fragments.items():
        file = _fragment(name, FRAGMENTS[key], key, path, root)
        yield Layer(file, key, read_yaml(file))
    yield from suites
    if base is None:
        return
    try:
        base_file = find_recipe(str(base), root)
    except UserError as error:
        raise UserError(error.what, file=path, key="extends", value=base, remedy=error.remedy) from None
    yield from _layers(base_file, root, (*seen, path.resolve()))


def _named_suites(values: dict[str, Any], path: Path, root: Path) -> list[Layer]:
    """The files of suites that a recipe's section on evaluation names; the names are taken out of it.

    Raises:
        UserError: for what is no list of names, a file that is not there, and a suite that two of them have.
    """
    key, section = f"evaluation.{SUITES_FROM}", values.get("evaluation")
    if not isinstance(section, dict) or SUITES_FROM not in section:
        return []
    values["evaluation"] = {name: value for name, value in section.items() if name != SUITES_FROM}
    names, found, layers = section[SUITES_FROM], dict[str, str](), list[Layer]()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        remedy = "write the names of files of config/suites, such as [base-ablation, long-context]"
        raise UserError("not a list of names", file=path, key=key, value=names, remedy=remedy)
    for name in names:
        file = _fragment(name, "suites", key, path, root)
        layers.append(Layer(file, "evaluation.suites", read_yaml(file)))
        for suite in layers[-1].values:
            if found.setdefault(suite, name) != name:
                raise UserError(
                    f"two files of suites have the suite {suite}: {found[suite]} and {name}",
                    file=path, key=key, value=name, remedy="leave one of them out, or rename the suite in one",
                )  # fmt: skip
    return layers


def locate(error: UserError, path: Path, root: Path) -> UserError:
    """The error with the file and line in which its key stands, or as much of its key as there is."""
    if error.key is not None and error.file in (None, path):
        found = [(len(error.key) + 1, 0, path)]
        for layer in _layers(path, root):
            inside = error.key.removeprefix(f"{layer.key}.") if layer.key else error.key
            if not layer.key or inside != error.key:
                missing, line = line_of(layer.file, inside)
                found.append((len(missing), line, layer.file))
        _, line, error.file = min(found, key=lambda place: place[0])
        error.line = line or None
    error.file = error.file or path
    return error


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


def explain(error: ValidationError, values: dict[str, Any]) -> UserError:
    """The first problem of a validation in the user's terms, unknown keys before others, with the keys of the next."""
    first, *others = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    told, location = first.get("ctx", {}).get("error"), _keys(first["loc"], values)
    given: Any = first["input"]
    what = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    value = json.dumps(given) if given is None or isinstance(given, bool) else given
    section = ".".join(part for part in location if not part.isdigit())
    remedy = f"see {section and f'`{section}` in '}docs/reference/recipe.md"
    if isinstance(told, Problem):
        remedy = told.remedy
        if told.key:
            location, value = [*location, told.key], given.get(told.key)
    elif first["type"] == "extra_forbidden":
        valid, renamed = valid_keys(location[:-1]), RENAMED.get(location[-1])
        what = "unknown key"
        remedy = f"it is called `{renamed}` now" if renamed in valid else did_you_mean(location[-1], valid)
    elif first["type"] == "missing":
        what, remedy, value = "a required key is missing", f"add it; {remedy}", None
    elif first["type"] == "string_type" and isinstance(given, int | float):
        what, remedy = "not a text", f"put it in quotes; {remedy}"
    elif first["type"] in NOT:
        what = f"not {NOT[first['type']]}"
    elif isinstance(value, dict):  # of a section the keys that the message names
        named = [key for key in value if re.search(rf"\b{re.escape(str(key))}\b", what)]
        value = ", ".join(f"{key}: {value[key]}" for key in named) or value
    if others:
        more = [".".join(_keys(other["loc"], values)) for other in others[:3]]
        remedy += f" ({len(others)} more: {', '.join(more)})"
    return UserError(what, key=".".join(location) or "''", value=value, remedy=remedy)


def _keys(location: tuple[int | str, ...], values: Any) -> list[str]:
    """The keys of a place in the recipe; pydantic adds what it tried there, and of a mapping's name the name."""
    if location[-1] == "[key]":
        return _keys(location[:-2], values) if len(location) > 2 else []
    keys, inner = [], values
    for part in location:
        if not (isinstance(inner, dict) or (isinstance(inner, list) and isinstance(part, int))):
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
