"""Scores of the toy's chat task: is a response well formed, does it think iff asked to, is its answer right.

When thinking is off the template's prompt already ends in an empty think block: the response must not think.
Self-contained: lm-evaluation-harness loads this file by its path.
"""

import re
from typing import Any

MAX_TOKENS = 48  # max_gen_toks of chat.yaml
OPEN, CLOSE = "<think>", "</think>"


def split_thought(text: str) -> tuple[str | None, str]:
    """Thought and answer of a response; the thought is None without a complete think block at the start."""
    body = text.strip()
    if not body.startswith(OPEN) or CLOSE not in body:
        return None, body
    thought, _, answer = body.removeprefix(OPEN).partition(CLOSE)
    return thought.strip(), answer.strip()


def ended(text: str) -> bool:
    """Whether the response ended by itself, as far as the text shows (the stop string is already cut off).

    A word or a mark is at least one token; a response that ran into the limit rarely stops at a full stop.
    """
    pieces = re.findall(r"\w+|[^\w\s]+", text)
    return len(pieces) < MAX_TOKENS and text.rstrip().endswith((".", "!", "?"))


def scores(text: str, thinking: bool, expected: str) -> dict[str, float]:
    """`format`, `switch` and `answer`, each 0 or 1."""
    thought, answer = split_thought(text)
    tags = text.count(OPEN) + text.count(CLOSE)
    if thinking:
        shaped = bool(thought) and tags == 2
        switched = bool(thought)
    else:
        shaped = switched = tags == 0
    found = re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", answer, re.IGNORECASE) is not None
    # An unfinished thought is no answer.
    right = found and OPEN not in answer
    return {
        "format": float(shaped and bool(answer) and ended(text)),
        "switch": float(switched),
        "answer": float(right),
    }


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Entry point of lm-evaluation-harness."""
    return scores(results[0], bool(doc["enable_thinking"]), str(doc["answer"]))
