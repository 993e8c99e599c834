"""YAML files that users write: safe, by the rules of YAML 1.2's core schema, and with no key twice."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from smolmake.errors import UserError

# https://yaml.org/spec/1.2.2/#103-core-schema. What matches none of these is text: `no`, `12:30`, `1_000`, 2024-01-01.
CORE = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
TAG = "tag:yaml.org,2002:"


class Ambiguous(str):
    """A text without quotes that YAML 1.1 reads as another type, such as `12:30` (750) or `no` (false)."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain values only: no tag makes anything else of them."""

    yaml_implicit_resolvers: dict[Any, Any] = {}
    yaml_constructors = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(TAG) in (*CORE, "seq", "map")
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _wrong("no mapping of keys to values", node)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _wrong("a key must be a plain word", key_node)
            if key in seen:
                raise _wrong(f"the key `{key}` stands twice", key_node)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (KeyError, ValueError):
            raise _wrong(f"`{str(node.value)[:60]}` is no {node.tag.removeprefix(TAG)}", node) from None

    def construct_int(self, node: yaml.ScalarNode) -> int:
        if re.match(r"[-+]?0[0-9]", node.value):
            raise _wrong(f"`{node.value[:60]}` starts with 0: leave it out of a number, or put a text in quotes", node)
        if len(node.value) > 100:
            raise _wrong("a number of more than 100 digits", node)
        return int(node.value, 0)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        other = yaml.SafeLoader.yaml_implicit_resolvers.get(node.value[:1], [])
        if "\0" in node.value:
            raise _wrong("a text with the character NUL", node)
        plain = not node.style and any(pattern.match(node.value) for _, pattern in other)
        return Ambiguous(node.value) if plain else str(node.value)


for name, form in CORE.items():
    Loader.add_implicit_resolver(TAG + name, re.compile(f"(?:{form})$"), None)
Loader.add_constructor(TAG + "int", Loader.construct_int)
Loader.add_constructor(TAG + "str", Loader.construct_text)


def _wrong(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    values = parse_yaml(path.read_bytes(), path)
    if not isinstance(values, dict):
        raise UserError("a recipe is a mapping of keys to values", file=path, remedy="see docs/reference/recipe.md")
    return values


def parse_yaml(content: bytes | str, file: Path | None = None) -> Any:
    """What a file's content says.

    Raises:
        UserError: if it is not YAML, or says the same key twice.
    """
    try:
        return yaml.load(content, Loader=Loader)  # noqa: S506 (a subclass of SafeLoader)
    except yaml.reader.ReaderError as error:
        raise UserError("not a UTF-8 text file", file=file, value=error.reason, remedy="save it as UTF-8") from None
    except RecursionError:
        raise UserError("not valid YAML: nested too deep", file=file, remedy="nest it less") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "?"
        raise UserError(f"not valid YAML: {error.problem}", file=file, value=where, remedy="fix that line") from None


def line_of(path: Path, key: str) -> tuple[str, int]:
    """What of a dotted key is not in a file, and the line on which the last of its parts that is there stands."""
    node, rest, line = yaml.compose(path.read_bytes(), Loader=Loader), f"{key}.", 0
    while rest:
        inside = [(at.value, at, value) for at, value in node.value] if isinstance(node, yaml.MappingNode) else []
        if isinstance(node, yaml.SequenceNode):
            inside = [(str(number), item, item) for number, item in enumerate(node.value)]
        fitting = [place for place in inside if rest.startswith(f"{place[0]}.")]
        if not fitting:
            break
        name, at, node = max(fitting, key=lambda place: len(place[0]))  # names may have dots
        rest, line = rest[len(name) + 1 :], at.start_mark.line + 1
    return rest, line


def told_differently(text: str) -> Iterator[tuple[str, str, int, str]]:
    """The values, and keys, that YAML 1.1 reads otherwise than `Loader`: key, text, line, and what it takes them for.

    Merge keys (`<<`) are left out: only YAML 1.1 has them, and nobody means anything else by them.
    """
    waiting: list[tuple[str, Any, Any]]
    waiting = [("", yaml.compose(text, Loader=Loader), yaml.compose(text, Loader=yaml.SafeLoader))]
    for key, ours, theirs in waiting:  # which grow meanwhile
        if isinstance(ours, yaml.MappingNode):
            for (name, value), (their_name, their_value) in zip(ours.value, theirs.value, strict=True):
                inner = f"{key}.{name.value}".lstrip(".")
                waiting += [(inner, name, their_name), (inner, value, their_value)]
        elif isinstance(ours, yaml.SequenceNode):
            pairs = zip(ours.value, theirs.value, strict=True)
            waiting += [(f"{key}.{number}", *pair) for number, pair in enumerate(pairs)]
        elif isinstance(ours, yaml.ScalarNode) and ours.value != "<<":
            octal = ours.tag == TAG + "int" and re.match(r"[-+]?0[0-9]", ours.value)
            if octal or ours.tag != theirs.tag:
                yield key, ours.value, ours.start_mark.line + 1, _as_yaml_1_1(theirs)


def _as_yaml_1_1(node: yaml.ScalarNode) -> str:
    """A value as YAML 1.1 reads it, in words."""
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except yaml.YAMLError:
        return node.tag.removeprefix(TAG)
    return f"the text {value}" if isinstance(value, str) else f"{value} ({type(value).__name__})"
