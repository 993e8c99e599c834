"""Read a recipe: safe YAML, overlays, validation, and errors that name file, key, value and remedy."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from smolmake.errors import UserError, did_you_mean
from smolmake.recipe.schema import Recipe
from smolmake.recipe.validate import check_recipe

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


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML: `3e-4` is a number (YAML 1.1 reads text), `on` and `no` are words, a key may stand once only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key `{key}` stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$")
BOOL, BOOL_TAG = re.compile(r"true|True|TRUE|false|False|FALSE"), "tag:yaml.org,2002:bool"
Loader.yaml_implicit_resolvers = {  # YAML 1.1 also reads `on`, `off`, `yes` and `no` as booleans: here they are words
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != BOOL_TAG]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(BOOL_TAG, BOOL, list("tTfF"))
Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789"))


def load_recipe(recipe: str, root: Path) -> Recipe:
    """Load the recipe of that name under `root`, or the file that `recipe` is the path of.

    Raises:
        UserError: for anything that is wrong with it.
    """
    path = find_recipe(recipe, root)
    values = read_with_overlays(path, root)
    try:
        loaded = Recipe.model_validate(values)
    except ValidationError as error:
        raise explain(error, path, values) from None
    check_recipe(loaded, path, root)
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


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        with path.open(encoding="utf-8") as file:
            values = yaml.load(file, Loader=Loader)  # noqa: S506 (a subclass of SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "?"
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"not valid YAML: {problem}", file=path, value=where, remedy="mend that line") from None
    except UnicodeDecodeError:
        raise UserError("not a UTF-8 text file", file=path, remedy="save it as UTF-8") from None
    if not isinstance(values, dict):
        raise UserError("a recipe is a mapping of keys to values", file=path, remedy="see docs/reference/recipe.md")
    return values


def explain(error: ValidationError, path: Path, values: dict[str, Any]) -> UserError:
    """The first problems of a validation in the user's terms."""
    first, *others = error.errors()
    location = [str(part) for part in first["loc"]]
    if location[-1:] == ["[key]"]:  # a name in a mapping such as `sources`: pydantic gives the name, then this
        location = location[:-2]
    key = ".".join(location)
    message = first["msg"].removeprefix("Value error, ")
    remedy = f"see `{'.'.join(part for part in location if not part.isdigit())}` in docs/reference/recipe.md"
    if first["type"] == "extra_forbidden":
        valid = valid_keys(Recipe, location[:-1])
        message = "unknown key"
        renamed = RENAMED.get(location[-1])
        remedy = f"it is called `{renamed}` now" if renamed in valid else did_you_mean(location[-1], valid)
    elif first["type"] == "missing":
        message, remedy = "a required key is missing", f"add it; {remedy}"
    if others:
        remedy += f" ({len(others)} more: {', '.join('.'.join(map(str, other['loc'])) for other in others[:3])})"
    value = None if first["type"] == "missing" else _concerned(first["input"], message)
    return UserError(message, file=path, key=key, value=value, remedy=remedy)


def _concerned(value: Any, message: str) -> Any:
    """Of a section, the keys that the message names, if it names any."""
    named = [key for key in value if re.search(rf"\b{re.escape(str(key))}\b", message)] if type(value) is dict else []
    return ", ".join(f"{key}: {value[key]}" for key in named) or value


def valid_keys(section: type[BaseModel], location: list[str]) -> list[str]:
    """The keys that the schema knows at a place such as ["pretraining", "stages", "0"]."""
    annotation: Any = section
    for part in location:
        inner = _inside(annotation)
        if inspect.isclass(inner) and issubclass(inner, BaseModel):
            field = inner.model_fields.get(part)
            annotation = field.annotation if field else None
        else:  # a list's index or a mapping's name
            annotation = typing.get_args(inner)[-1] if typing.get_args(inner) else None
    model = _inside(annotation)
    return list(model.model_fields) if inspect.isclass(model) and issubclass(model, BaseModel) else []


def _inside(annotation: Any) -> Any:
    """What stands beside None in `X | None`, and under the notes of an Annotated type."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _inside(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(_inside(part) for part in typing.get_args(annotation) if part is not type(None))
    return annotation


def _fragment(name: str, folder: str, key: str, recipe: Path, root: Path) -> Path:
    known = sorted(file.stem for file in (root / "config" / folder).glob("*.yaml"))
    if name not in known:
        raise UserError("there is no such file", file=recipe, key=key, value=name, remedy=did_you_mean(name, known))
    return root / "config" / folder / f"{name}.yaml"
