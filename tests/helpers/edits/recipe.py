"""Random edits of a recipe: every key of the schema at other values, and other ways to write the same."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers.edits.edit import Edit
from smolmake.recipe.load import load_recipe
from smolmake.recipe.schema import Recipe
from smolmake.yaml_files import parse_yaml, read_yaml

FILE = "edits.yaml"
Values = Any
# Keys by which sums are added up in another order, so that results differ in their last bits: no identity has them.
SUMMED = re.compile(r"runtime\.(micro_batch|threads|threads_posttraining|compile|layouts)\b")
# What a mini recipe on a CPU cannot have: hubs, services, clusters, GPUs.
LEFT_OUT = re.compile(
    r"^(name|base)$|^base\.|\bhub\b|revision|\.(config|split|files|generated|script)$|runtime\.(device|upload|alerts|trackers|scratch)"
    r"|layouts|\.adopt|\.shards|compare_with|evaluation\.suites|tokenizer\.path|precision|compile|\.packages"
)


def keys_of(value: Values, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All leaves, with their keys and their numbers in lists; a list of plain values is one leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from keys_of(inner, (*place, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from keys_of(inner, (*place, number))
    else:
        yield place, value


def schema_at(place: tuple[Any, ...]) -> dict[str, Any]:
    """What the JSON schema says of a key: the alternatives that are not null, as one."""
    whole = Recipe.model_json_schema()
    part: dict[str, Any] = whole
    for key in (*place, None):
        while "$ref" in part or "anyOf" in part or "allOf" in part:
            choices = [each for each in part.get("anyOf", part.get("allOf", [])) if each != {"type": "null"}]
            part = whole["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else choices[0] if choices else {}
        if key is not None:
            known = part.get("properties", {})
            part = known.get(key) or part.get("items") or part.get("additionalProperties") or {}
            part = part if isinstance(part, dict) else {}
    return part


def another(value: Any, told: dict[str, Any], rng: random.Random) -> Any:
    """Another value of a key's type; it may be one that the recipe's checks refuse."""
    if choices := told.get("enum"):
        return rng.choice([each for each in choices if each != value] or choices)
    if isinstance(value, bool) or told.get("type") == "boolean":
        return not value
    if isinstance(value, int):
        return rng.choice([value + 1, value + 2, max(value - 1, 0), value * 2])
    if isinstance(value, float):
        return round(value * rng.choice([0.5, 0.9, 1.1, 2.0]), 6) if value else rng.choice([0.01, 0.1])
    if isinstance(value, str):
        return f"{value} other" if value else "other"
    if isinstance(value, list) and value:
        return rng.choice([value[::-1], value[1:], [*value, another(value[0], {}, rng)]])
    least = told.get("minimum", told.get("exclusiveMinimum", 0))
    by_type = {"integer": least + rng.choice([1, 2, 4]), "number": least + rng.choice([0.1, 0.5]), "array": ["other"]}
    return by_type.get(told.get("type", ""), {} if told.get("type") == "object" else "other")


def put(values: Values, place: tuple[Any, ...], value: Any) -> None:
    """Set a value; what is not there yet of its place is made."""
    *path, last = place
    for part in path:
        if isinstance(values, dict):
            if not isinstance(values.get(part), dict | list):
                values[part] = {}
            values = values[part]
        else:
            values = values[part]
    values[last] = value


def _written(place: tuple[Any, ...], value: Any) -> Callable[[Path], None]:
    def apply(tree: Path) -> None:
        values = read_yaml(tree / FILE)
        put(values, place, value)
        (tree / FILE).write_text(json.dumps(values, indent=1))

    return apply


def recipe_edits(tree: Path, rng: random.Random, count: int) -> Iterator[Edit]:
    """A key of the schema at another value, any of those that the recipe can have; also such as its checks refuse."""
    values = load_recipe(str(tree / FILE), tree).model_dump(mode="json")
    leaves = [(place, value) for place, value in keys_of(values)]
    leaves = [(place, value) for place, value in leaves if not LEFT_OUT.search(".".join(map(str, place)))]
    order = list(leaves)
    while count:
        if not order:
            order = list(leaves)
        place, value = order.pop(rng.randrange(len(order)))
        key = ".".join(map(str, place))
        new = another(value, schema_at(place), rng)
        count -= 1
        alone = bool(SUMMED.match(key))
        yield Edit("recipe: a key", f"{key} {value!r} → {new!r}", f"{FILE}:{key}", False, _written(place, new), alone)


# Other ways to write the same


def _numbers(text: str, rng: random.Random) -> str:
    """One number otherwise: 1e-3 for 0.001, 400.0 for 400, 4_000 and 4k for 4000."""
    found = list(re.finditer(r"(?<=: )(\d+\.?\d*(?:e-?\d+)?)(k?)(?=[,}\n])", text))
    at = rng.choice(found)
    number = float(at[1]) * (1000 if at[2] else 1)
    ways = [f"{number:e}", f"{number:.6f}", repr(number)]
    if number == int(number):
        ways += [str(int(number)), f"{int(number)}.0", f"+{int(number)}"]
    return text[: at.start()] + rng.choice(ways) + text[at.end() :]


def _quoted(text: str, rng: random.Random) -> str:
    at = rng.choice(list(re.finditer(r"(?<=: )([a-z][a-z./-]+)(?=[,}\n])", text)))
    return text[: at.start()] + rng.choice([f"'{at[1]}'", f'"{at[1]}"']) + text[at.end() :]


def _commented(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.choice([number for number, line in enumerate(lines) if re.match(r"[a-z]", line)])
    return "".join([*lines[:at], f"# {rng.random()}\n", *lines[at:], "\n\n# The end.\n"])


def _reordered(text: str, rng: random.Random) -> str:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shuffled(value[key]) for key in rng.sample(list(value), len(value))}
        return [shuffled(each) for each in value] if isinstance(value, list) else value

    return json.dumps(shuffled(parse_yaml(text)))


def _block(text: str, rng: random.Random) -> str:
    return json.dumps(parse_yaml(text), indent=rng.choice([None, 1, 4]))


def _paths(text: str, rng: random.Random) -> str:
    at = rng.choice(list(re.finditer(r"(?<=path: )([a-z/.]+)(?=[,}])", text)))
    ways = [f"./{at[1]}", f"texts/../{at[1]}"] + ([f"{at[1]}/"] if "." not in at[1] else [])
    return text[: at.start()] + rng.choice(ways) + text[at.end() :]


REWRITTEN: dict[str, Callable[[str, random.Random], str]] = {
    "a number written otherwise": _numbers, "quotes": _quoted, "a comment": _commented,
    "keys in another order": _reordered, "another layout": _block, "another way to write a path": _paths,
}  # fmt: skip


def rewritings(tree: Path, rng: random.Random, count: int) -> Iterator[Edit]:
    """Edits of the recipe's text that say the same, and keys at the values that they have anyway."""
    values = load_recipe(str(tree / FILE), tree).model_dump(mode="json")
    given = {place for place, _ in keys_of(read_yaml(tree / FILE))}
    unset = [(place, value) for place, value in keys_of(values) if place not in given and value not in ({}, [])]
    for _ in range(count):
        kind, seed = rng.choice([*REWRITTEN, "a default that is written down"]), rng.random()
        if kind in REWRITTEN:
            shown = kind == "another way to write a path"  # which the report prints
            yield Edit(f"recipe: {kind}", f"seed {seed}", FILE, not shown, _rewritten(kind, seed))
        else:
            place, value = rng.choice(unset)
            key = ".".join(map(str, place))
            yield Edit(f"recipe: {kind}", f"{key} {value!r}", f"{FILE}:{key}", True, _written(place, value))


def _rewritten(kind: str, seed: float) -> Callable[[Path], None]:
    def apply(tree: Path) -> None:
        text = (tree / FILE).read_text()
        (tree / FILE).write_text(REWRITTEN[kind](text, random.Random(seed)))

    return apply
