"""The reference of all recipe keys, made from the schema.

Usage: python -m smolmake.recipe.reference [--write]
Without --write it prints docs/reference/recipe.md; with it, it writes that page and config/recipe.schema.json. A test
fails when one of them and the schema are out of step.
"""

from __future__ import annotations

import argparse
import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from smolmake.files import write_atomically
from smolmake.recipe import json_schema
from smolmake.recipe.example import commented_example, scalar
from smolmake.recipe.load import FRAGMENTS
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Argument
from smolmake.recipe.types import COUNT_UNITS, TIME_UNITS, Count, Length, Name, Seconds

FILE = Path("docs") / "reference" / "recipe.md"
COMMAND = "python -m smolmake.recipe.reference --write"
WORDS = {Count: "count", Length: "length", Seconds: "time", Name: "name", Argument | list[Argument]: "value or list"}
PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false"}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}

INTRODUCTION = """\
# Recipe keys

<!-- Made from src/smolmake/recipe/ by `{command}`. Do not edit it by hand. -->

A recipe is one YAML file that describes one model, from its data to its report. It is chosen by name (`--config
recipe=NAME`: `config/recipes/NAME.yaml` or `examples/NAME/recipe.yaml`) or by path (`--config recipe=my/recipe.yaml`).
An unknown key is an error that names the nearest valid one. `examples/toy/recipe.yaml` is a whole recipe, and this page
ends with [an example with every key](#an-example-with-every-key).

## How values are written

| type | what it accepts |
|---|---|
| number | `0.1`, `3e-4`; infinity and NaN are refused |
| count | a whole number, with a unit if you like: {counts}; `8.14T` is 8,140,000,000,000 |
| length | as a count, but `k` is 1,024: `32k` is 32,768 tokens |
| time | seconds, or a number with a unit: {times}; `2h` is 7,200 seconds |
| name | part of a path: a-z, 0-9, `_`, `.`, `-`, at most 64 characters |

`<name>` in a heading is a name that you choose, `[]` means one entry of a list. Paths are taken from the
project's root.

## Completion in an editor

`config/recipe.schema.json` holds all keys for editors with the YAML language server (such as VS Code with its YAML
extension). The first line of a recipe names it, by a path that is relative to the recipe:

```
# yaml-language-server: $schema=../recipe.schema.json
```

## Building on another recipe

- `extends: NAME` takes another recipe (a name or a path) as the base. Sections are laid over it key by key. A
  list or a value replaces the base's. `null` removes a key.
{fragments}
"""
EXAMPLE = """\
## An example with every key

What has a default may be left out.

```yaml
{example}```
"""


@dataclass(frozen=True)
class SectionEntry:
    """A section of the recipe and the places where it stands, such as `pretraining.stages[]`."""

    model: type[BaseModel]
    places: list[str]


def render() -> str:
    """The content of docs/reference/recipe.md."""
    fragments = "\n".join(
        f"- `{key}: NAME` takes the whole section from `config/{folder}/NAME.yaml`."
        for key, folder in FRAGMENTS.items()
    )
    introduction = INTRODUCTION.format(
        command=COMMAND,
        counts=", ".join(f"`{unit}`" for unit in COUNT_UNITS if unit),
        times=", ".join(f"`{unit}`" for unit in TIME_UNITS if unit),
        fragments=fragments,
    )
    headings = {part.model: part.places[0] or "Top level" for part in parts()}
    sections = [_section(part, headings) for part in parts()]
    return "\n".join([introduction, *sections, EXAMPLE.format(example=commented_example())])


def parts() -> list[SectionEntry]:
    """The recipe and all sections in it, each once, in the order of the recipe's keys."""
    found: dict[type[BaseModel], SectionEntry] = {}

    def visit(model: type[BaseModel], place: str) -> None:
        if model in found:
            found[model].places.append(place)
            return
        found[model] = SectionEntry(model, [place])
        for key, hint in hints(model).items():
            for inner, suffix in _models(hint):
                visit(inner, f"{place}.{key}{suffix}".lstrip("."))

    visit(Recipe, "")
    return list(found.values())


def hints(model: type[BaseModel]) -> dict[str, Any]:
    """The annotations of a section's keys, with what `Annotated` adds."""
    annotations = typing.get_type_hints(model, include_extras=True)
    return {key: annotations[key] for key in model.model_fields}


def _models(hint: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """The sections inside an annotation, with what to write behind the key: nothing, `[]` or `.<name>`."""
    if inspect.isclass(hint) and not isinstance(hint, types.GenericAlias):
        if issubclass(hint, BaseModel):
            yield hint, suffix
        return
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict:
        yield from _models(arguments[1], suffix + ".<name>")
    elif origin is list:
        yield from _models(arguments[0], suffix + "[]")
    else:
        for argument in arguments:
            yield from _models(argument, suffix)


def _section(part: SectionEntry, headings: dict[type[BaseModel], str]) -> str:
    place = part.places[0]
    lines = [f"## {'`' + place + '`' if place else headings[part.model]}", ""]
    lines += [inspect.getdoc(part.model) or "", ""]
    if len(part.places) > 1:
        lines += ["The same keys stand at " + ", ".join(f"`{other}`" for other in part.places[1:]) + ".", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, hint in hints(part.model).items():
        field = part.model.model_fields[key]
        if hint not in WORDS and typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]  # its limits are among the field's
        kind = ", ".join([describe(hint, headings), *_bounds(field)])
        meaning = (field.description or "").replace("<", "&lt;").replace("|", "\\|")
        lines.append(f"| `{key}` | {kind} | {_default(field)} | {meaning} |")
    return "\n".join([*lines, ""])


def describe(hint: Any, headings: dict[type[BaseModel], str]) -> str:
    """An annotation in the words of the page."""
    for known, word in WORDS.items():
        if hint == known:
            return word
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        inner = [bound for extra in arguments[1:] if isinstance(extra, FieldInfo) for bound in _bounds(extra)]
        return " ".join([describe(arguments[0], headings), *inner])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {describe(arguments[0], headings)}"
    if origin is dict:
        return f"{describe(arguments[0], headings)} → {describe(arguments[1], headings)}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if item is type(None) else describe(item, headings) for item in arguments)
    if issubclass(hint, BaseModel):
        return f"[section](#{_anchor(headings[hint])})"
    return PLAIN[hint]


def _bounds(field: FieldInfo) -> list[str]:
    """The limits of a value, such as `> 0`, and of a list's or mapping's size."""
    bounds = []
    for limit in field.metadata:
        bounds += [f"{sign} {getattr(limit, name):,}" for name, sign in BOUNDS.items() if hasattr(limit, name)]
        if hasattr(limit, "min_length"):
            bounds.append(f"at least {limit.min_length}")
    return bounds


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "its keys' defaults"
    if field.default in ("", [], {}):
        return "empty"
    return "null" if field.default is None else f"`{scalar(field.default)}`"


def _anchor(heading: str) -> str:
    """The anchor that Markdown viewers give a heading: letters, digits, `_` and `-` stay."""
    kept = [letter for letter in heading.lower().replace(" ", "-") if letter.isalnum() or letter in "_-"]
    return "".join(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--write", action="store_true", help=f"write {FILE} and {json_schema.FILE} under the working folder"
    )
    if parser.parse_args().write:
        write_atomically(FILE, render())
        write_atomically(json_schema.FILE, json_schema.render_schema())
    else:
        print(render(), end="")


if __name__ == "__main__":
    main()
