"""What may be wrong with rows that can be trained: counted by name, with the numbers of the first rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from smolmake.files import digest
from smolmake.posttrain.findings import CHECKS
from smolmake.posttrain.rows import Conversation, Pair

SHOWN_ROWS = 5


@dataclass
class RowChecks:
    """The findings of a source."""

    rows: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    seen: set[str] = field(default_factory=set)

    def add(self, name: str, number: int) -> None:
        self.rows[name] += 1
        if len(self.first[name]) < SHOWN_ROWS:
            self.first[name].append(number)

    def look(self, number: int, made: Conversation | Pair) -> None:
        """Note what can be told of a row's messages alone."""
        messages = made.messages if isinstance(made, Conversation) else [*made.prompt, made.chosen]
        answers = [message for message in messages if message["role"] == "assistant"]
        answers += [] if isinstance(made, Conversation) else [made.rejected]
        roles = [message["role"] for message in messages]
        if any(one == other in ("user", "assistant") for one, other in zip(roles, roles[1:], strict=False)):
            self.add("turns", number)
        if any(not (answer["content"].strip() or answer.get("tool_calls")) for answer in answers):
            self.add("empty_answers", number)
        if any(_thoughts(answer) > 1 for answer in answers):
            self.add("double_thoughts", number)
        if made.settings.get("enable_thinking") is False and _thoughts(messages[-1]):
            self.add("modes", number)
        said = digest([messages, answers, made.settings])
        if said in self.seen:
            self.add("duplicates", number)
        self.seen.add(said)

    def facts(self) -> dict[str, Any]:
        return {
            name: {"rows": self.rows[name], "first": sorted(self.first[name])} for name in CHECKS if self.rows[name]
        }


def _thoughts(answer: dict[str, Any]) -> int:
    """How many thoughts an answer has; an empty one is none."""
    parts = answer["content"].split("<think>")[1:]
    return sum(bool(part.split("</think>")[0].strip()) for part in parts) + bool(answer.get("reasoning_content"))
