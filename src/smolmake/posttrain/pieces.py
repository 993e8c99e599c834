"""Whether every piece of a row stands in the text that the template makes of it; what is lost would not be trained."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from smolmake.errors import UserError
from smolmake.posttrain.rows import Conversation

FLAGS = re.compile(r"(?<!\S)(?:/think|/no_think|/system_override)(?!\S)")  # words that a template obeys
THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)


def lost_pieces(row: Conversation, text: str) -> Iterator[tuple[str, Any]]:
    """The name and value of each piece that does not stand in the text.

    Messages are looked for one after another, the rest anywhere. An object, such as the definition of a tool, stands
    there if all its keys and values do, as they are or as JSON writes them.
    """
    for name, value in (row.settings | row.columns).items():
        if not isinstance(value, bool | int | float) and _end(value, text, 0) < 0:
            yield name, value
    reached = 0
    for message in row.messages:
        ends = []
        for name, value in _of_message(message):
            if (end := _end(value, text, reached)) < 0:
                yield name, value
            ends.append(end)
        reached = max([reached, *ends])


def _of_message(message: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    content = message["content"]
    for number, part in enumerate(THOUGHT.split(content)):
        yield ("reasoning" if number % 2 else "content"), part
    if "reasoning_content" in message:
        yield "reasoning", message["reasoning_content"]
    for call in message.get("tool_calls", ()):
        yield "tool_calls", call["function"]["name"]
        yield "tool_calls", call["function"]["arguments"]


def _end(piece: Any, text: str, start: int) -> int:
    """Where the last part of a piece ends, or -1 if one is not in the text from `start` on."""
    if isinstance(piece, dict | list | tuple):
        inner = [each for pair in piece.items() for each in pair] if isinstance(piece, dict) else piece
        ends = [_end(each, text, start) for each in inner]
        return -1 if -1 in ends else max([start, *ends])
    if not isinstance(piece, str):
        return _place(json.dumps(piece), text, start)
    ends = [_place(part.strip(), text, start) for part in FLAGS.split(piece)]
    return -1 if -1 in ends else max(ends)


def _place(part: str, text: str, start: int) -> int:
    for written in (part, json.dumps(part, ensure_ascii=False)[1:-1], json.dumps(part)[1:-1]):
        if (place := text.find(written, start)) >= 0:
            return place + len(written)
    return -1


@dataclass
class Losses:
    """What a template loses of the rows of a source, by the piece's name: rows, and the first of them."""

    rows: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, Any]] = field(default_factory=dict)

    def add(self, number: int, row: Conversation, text: str) -> None:
        found = dict(reversed([*lost_pieces(row, text)]))  # the first of each name
        self.rows.update(found.keys())
        for name, value in found.items():
            self.first.setdefault(name, (number, value))

    def check(self, allowed: list[str], source: str, file: Any, template: str) -> None:
        """Raise UserError for a piece that is lost and may not be."""
        bad = [name for name in self.rows if name not in allowed]
        if not bad:
            return
        told = ", ".join(f"{name} of {self.rows[name]:,} row{'s'[: self.rows[name] > 1]}" for name in bad)
        number, value = self.first[bad[0]]
        raise UserError(
            f"the chat template {template} loses {told}: this text would not be trained",
            file=file, key=source, value=f"row {number}, {bad[0]}: {value}",
            remedy=f"use a template that prints it, such as smollm3.jinja, or say `may_lose: [{', '.join(bad)}]` there",
        )  # fmt: skip
