"""What was found of rows that can be trained, in words."""

from __future__ import annotations

from typing import Any

CHECKS = {
    "turns": "two messages of the user or of the assistant follow each other",
    "empty_answers": "an answer is empty",
    "double_thoughts": "an answer has more than one thought",
    "duplicates": "the same messages stand in another row",
    "prompt": "the prompt that the model is asked with is not the beginning of what is trained",
    "end_of_turn": "the token that ends the last answer is no target: the model would not learn to stop",
    "modes": "the row says no_think, and its last answer thinks",
}


def told_checks(found: dict[str, Any]) -> list[str]:
    """`3 rows (5, 9, 12): an answer is empty`, and so on."""
    told = []
    for name, of in found.items():
        more = ", ..." if of["rows"] > len(of["first"]) else ""
        told.append(f"{of['rows']:,} rows ({', '.join(map(str, of['first']))}{more}): {CHECKS[name]}")
    return told
