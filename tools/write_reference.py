"""Write the reference of all recipe keys, docs/reference/recipe.md, and config/recipe.schema.json, from the schema.

Usage: python tools/write_reference.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipe_example import commented_example, scalar
from recipe_schema import BOUNDS, render_schema

from smolmake.recipe.load import FRAGMENTS, SUITES_FROM
from smolmake.recipe.schema import Recipe
from smolmake.recipe.types import COUNT_UNITS, TIME_UNITS

ROOT = Path(__file__).resolve().parent.parent
FILE, SCHEMA_FILE = ROOT / "docs" / "reference" / "recipe.md", ROOT / "config" / "recipe.schema.json"
COMMAND = "python tools/write_reference.py"
SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
SIGNS |= {bound: SIGNS[name] for bound, name in BOUNDS.items()}
WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
Schema = dict[str, Any]

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
| count | a whole number, with a unit if you like: {counts}; `8.14T` is 8,140,000,000,000, `1_000` is 1,000 |
| length | as a count, but `k` is 1,024: `32k` is 32,768 tokens |
| time | seconds, or a number with a unit: {times}; `2h` is 7,200 seconds |
| name | part of a path: a-z, 0-9, `_`, `.`, `-`, at most 64 characters |
| value | text, a number, or true or false |

The rules are those of YAML 1.2: only `true` and `false` are no text (`no`, `on` and `yes` are), `12:30` and
`2024-01-01` are texts. Where a value of any type may stand, such as in `where`, put a text in quotes that older rules
take for something else. A number does not begin with 0: `010` is refused.

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
SUITES = f"""
- `evaluation: {{{SUITES_FROM}: [NAME, ...]}}` takes suites from `config/suites/NAME.yaml`; the recipe's own `suites`
  are laid over them key by key."""
EXAMPLE = """\
## An example with every key

What has a default may be left out.

```yaml
{example}```
"""


def render() -> str:
    """The content of docs/reference/recipe.md."""
    introduction = INTRODUCTION.format(
        command=COMMAND,
        counts=", ".join(f"`{unit}`" for unit in COUNT_UNITS if unit),
        times=", ".join(f"`{unit}`" for unit in TIME_UNITS if unit),
        fragments="\n".join(
            f"- `{key}: NAME` takes the whole section from `config/{folder}/NAME.yaml`."
            for key, folder in FRAGMENTS.items()
        )
        + SUITES,
    )
    schema = Recipe.model_json_schema()
    sections, places = {"Recipe": schema} | schema["$defs"], section_places(schema)
    tables = [_table(sections[name], found, places) for name, found in places.items()]
    return "\n".join([introduction, *tables, EXAMPLE.format(example=commented_example())])


def section_places(schema: Schema) -> dict[str, list[str]]:
    """Every section of a recipe in the order of the keys, with the places where it stands: `pretraining.stages[]`."""
    found: dict[str, list[str]] = {}

    def visit(name: str, place: str) -> None:
        found.setdefault(name, []).append(place)
        if len(found[name]) > 1:
            return
        section = schema["$defs"][name] if place else schema
        for key, part in section["properties"].items():
            for inner, suffix in _sections(part):
                visit(inner, f"{place}.{key}{suffix}".lstrip("."))

    visit("Recipe", "")
    return found


def _sections(part: Schema, suffix: str = "") -> Iterator[tuple[str, str]]:
    """The sections inside a key, with what to write behind it: nothing, `[]` or `.<name>`."""
    if "$ref" in part:
        yield _section(part), suffix
    for key, more in (("additionalProperties", ".<name>"), ("items", "[]")):
        if isinstance(part.get(key), dict):
            yield from _sections(part[key], suffix + more)
    for choice in part.get("anyOf", []):
        yield from _sections(choice, suffix)


def _section(part: Schema) -> str:
    return str(part["$ref"]).rpartition("/")[2]


def _table(section: Schema, found: list[str], places: dict[str, list[str]]) -> str:
    lines = [f"## `{found[0]}`" if found[0] else "## Top level", "", section["description"], ""]
    if len(found) > 1:
        lines += ["The same keys stand at " + ", ".join(f"`{other}`" for other in found[1:]) + ".", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, part in section["properties"].items():
        default = "required" if key in section.get("required", []) else _default(part["default"], part)
        meaning = part["description"].replace("<", "&lt;").replace("|", "\\|")
        lines.append(f"| `{key}` | {', '.join(describe(part, places))} | {default} | {meaning} |")
    return "\n".join([*lines, ""])


def describe(part: Schema, places: dict[str, list[str]]) -> list[str]:
    """A type in the words of the page, and its limits."""
    choices = [choice for choice in part.get("anyOf", []) if choice != {"type": "null"}]
    if "format" in part:
        words, limited = part["format"], [part, *choices]
    elif choices:
        told = [describe(choice, places) for choice in part["anyOf"]]
        limits = [limit for _, *limits in told for limit in limits]
        return [" or ".join(first for first, *_ in told), *limits]
    elif "$ref" in part:
        heading = places[_section(part)][0].lower().replace(" ", "-")
        words, limited = f"[section](#{''.join(c for c in heading if c.isalnum() or c in '_-')})", []
    elif "enum" in part:
        words, limited = " or ".join(f"`{value}`" for value in part["enum"]), []
    elif part["type"] == "array":
        words, limited = f"list of {' '.join(describe(part['items'], places))}", [part]
    elif part["type"] == "object":
        name, value = part.get("propertyNames", {"type": "string"}), part["additionalProperties"]
        words, limited = f"{' '.join(describe(name, places))} → {' '.join(describe(value, places))}", [part]
    else:
        words, limited = WORDS[part["type"]], [part]
    return [words, *(limit for place in limited for limit in _limits(place))]


def _limits(part: Schema) -> Iterator[str]:
    """The limits of a value, such as `> 0`, and of a text's, list's or mapping's size."""
    yield from (f"{sign} {part[name]:,}" for name, sign in SIGNS.items() if name in part)
    yield from (f"at least {part[name]}" for name in ("minLength", "minItems", "minProperties") if name in part)


def _default(value: Any, part: Schema) -> str:
    if isinstance(value, dict) and "additionalProperties" not in part:
        return "its keys' defaults"
    if value in ("", [], {}):
        return "empty"
    return "null" if value is None else f"`{scalar(value)}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file is out of step")
    check = parser.parse_args().check
    for file, content in ((FILE, render()), (SCHEMA_FILE, render_schema())):
        if not check:
            file.write_text(content)
        elif file.read_text() != content:
            sys.exit(f"{file.relative_to(ROOT)} is out of step with the schema: run {COMMAND}")


if __name__ == "__main__":
    main()
