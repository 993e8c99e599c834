"""When an answer ends, and what of it is scored: stop strings end it, and thoughts are no part of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "<think>", "</think>"


@dataclass
class Noted:
    """What happened while a task was asked: numbers of items, or one entry an answer."""

    added: dict[tuple[int, int], int] = field(default_factory=dict)  # tokens, by item and choice
    merged: set[int] = field(default_factory=set)  # a choice's first letters merge with the question's last token
    truncated: set[int] = field(default_factory=set)  # too long for the model: the beginning was left out
    closed: list[bool] = field(default_factory=list)  # a thought, or several, that ended
    unclosed: list[bool] = field(default_factory=list)
    cut: list[bool] = field(default_factory=list)  # the limit of tokens came first


@dataclass(frozen=True)
class Ending:
    """What ends the answers of a task: stop strings, though not within a thought, unless thoughts are kept."""

    tokenizer: PreTrainedTokenizerBase
    stops: list[str]
    keeps_thoughts: bool
    looks_back: int  # tokens that may hold a stop string

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, stops: list[str], keeps_thoughts: bool) -> Ending:
        lengths = [len(tokenizer.encode(each, add_special_tokens=False)) for each in (*stops, OPEN, CLOSE)]
        return cls(tokenizer, stops, keeps_thoughts, 2 + max(lengths))

    @property
    def watched(self) -> list[str]:
        """Texts whose arrival changes something."""
        return self.stops if self.keeps_thoughts else [*self.stops, OPEN, CLOSE]


class Answer:
    """The tokens of an answer as they come; `ended` once a stop string came."""

    def __init__(self, ending: Ending, prompt: str) -> None:
        self.ending = ending
        self.opened = prompt.rstrip().endswith(OPEN)
        self.tokens: list[int] = []
        self.ended = False
        self._thinks, self._begins = self.opened and not ending.keeps_thoughts, 0

    def add(self, tokens: Iterable[int]) -> None:
        """Tokens after which nothing can have ended but with the last one."""
        self.tokens += tokens
        seen = self.ending.tokenizer.decode(self.tokens[max(self._begins, len(self.tokens) - self.ending.looks_back) :])
        if self._thinks and CLOSE in seen:
            self._thinks, self._begins = False, len(self.tokens)
        elif not self._thinks:
            self._thinks = not self.ending.keeps_thoughts and OPEN in seen
            self.ended = not self._thinks and any(stop in seen for stop in self.ending.stops)


def without_thought(text: str) -> tuple[str, bool, bool]:
    """A text without its thoughts, and whether it had closed ones or one without an end, which leaves no answer."""
    answer = re.sub(f"{OPEN}.*?{CLOSE}", "", text, flags=re.DOTALL)
    closed, unclosed = answer != text, OPEN in answer
    return "" if unclosed else answer.lstrip() if closed else text, closed, unclosed


def answer_text(answer: Answer, limit: int, ends: set[int], noted: Noted) -> str:
    """The text of an answer that is scored, and a note on it; `ends` are the tokens that end a text."""
    tokenizer = answer.ending.tokenizer
    special = {OPEN, CLOSE} & set(tokenizer.all_special_tokens)
    text = str(tokenizer.decode(answer.tokens, skip_special_tokens=not special))
    stripped, closed, unclosed = without_thought(OPEN + text if answer.opened else text)
    whole = text = text if answer.ending.keeps_thoughts else stripped
    for stop in answer.ending.stops:
        text = text.split(stop)[0]
    noted.closed.append(closed)
    noted.unclosed.append(unclosed)
    noted.cut.append(len(answer.tokens) == limit and not ends & set(answer.tokens) and text == whole)
    return text
