"""The JSON schema of recipes, by which editors complete and check them, made from the schema of `recipe/schema.py`.

    # yaml-language-server: $schema=../recipe.schema.json

in the first line of a recipe (the path is relative to it) switches it on in editors with the YAML language server. It
says what can be said of one file alone: a recipe may leave to the one that it `extends` what is required, and `null`
removes a key. Entries of lists are replaced as a whole, so what they require is required.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from smolmake.recipe.load import FRAGMENTS, SUITES_FROM
from smolmake.recipe.schema import Recipe
from smolmake.recipe.types import NAME

BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
Schema = dict[str, Any]


def render_schema() -> str:
    """The content of config/recipe.schema.json."""
    return json.dumps(recipe_schema(), indent=1, ensure_ascii=False) + "\n"


def recipe_schema() -> Schema:
    """The schema of a recipe's file."""
    schema = Recipe.model_json_schema()
    in_lists = {part["items"].get("$ref") for part in _parts(schema) if isinstance(part.get("items"), dict)}
    for part in list(_parts(schema)):
        part.pop("title", None)
        if part.pop("format", None) == "name":
            part["pattern"] = f"^{NAME}$"
        if isinstance(part.get("default"), dict):  # a section's defaults are those of its keys
            del part["default"]
        if isinstance(part.get("additionalProperties"), dict):
            part["additionalProperties"] = _or_null(part["additionalProperties"])
        for bound, name in BOUNDS.items():
            if bound in part:  # of a number that may be written with a unit: it binds the number
                part[name] = part.pop(bound)
    whole = [section for name, section in schema["$defs"].items() if f"#/$defs/{name}" in in_lists]
    for section in [schema, *schema["$defs"].values()]:
        if section not in whole:
            section.pop("required", None)
        section["properties"] = {key: _or_null(part) for key, part in section.get("properties", {}).items()}
    for key, folder in FRAGMENTS.items():
        named = {"type": "string", "description": f"The whole section from config/{folder}/NAME.yaml."}
        schema["properties"][key]["anyOf"].insert(1, named)
    listed = {"type": "array", "items": {"type": "string"}, "description": "Suites from files config/suites/NAME.yaml."}
    schema["$defs"]["Evaluation"]["properties"][SUITES_FROM] = listed
    extends = {"type": "string", "description": "The recipe that this one is laid over, key by key: a name or a path."}
    schema["properties"] = {"extends": extends} | schema["properties"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A recipe of smolmake"} | schema


def _or_null(part: Schema) -> Schema:
    """A key's schema that takes null too, with its description and default in front."""
    told = {key: part.pop(key) for key in ("description", "default") if key in part}
    choices = part.pop("anyOf", None) if set(part) == {"anyOf"} else None
    choices = choices or [part]
    return told | {"anyOf": [*choices, *([] if {"type": "null"} in choices else [{"type": "null"}])]}


def _parts(value: Any) -> Iterator[Schema]:
    """All schemas inside a schema; the keys of a section are names and no schema."""
    if isinstance(value, list):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, dict):
        yield value
        for key, inner in value.items():
            if key in ("properties", "$defs"):
                for part in inner.values():
                    yield from _parts(part)
            elif key not in ("default", "enum", "required"):
                yield from _parts(inner)
