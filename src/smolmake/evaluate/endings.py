"""When an answer ends, and what of it is scored: stop strings end it, and thoughts are no part of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from smolmake.evaluate.prompt_tokens import PromptTokens

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
    """What ends the answers of a task: tokens, and stop strings, though not in a thought, unless thoughts are kept."""

    tokens: PromptTokens
    stops: list[str]
    ends: set[int]
    keeps_thoughts: bool

    @cached_property
    def looks_back(self) -> int:
        """The number of tokens that may hold a stop string or the mark of a thought."""
        tokenizer = self.tokens.tokenizer
        return 2 + max(len(tokenizer.encode(each, add_special_tokens=False)) for each in (*self.stops, OPEN, CLOSE))

    @cached_property
    def telling(self) -> set[int]:
        """Tokens that end an answer, or can complete such a text: they hold its last letter, or part of a letter."""
        letters = {text[-1] for text in (*self.stops, OPEN, CLOSE)} | {"\ufffd"}
        return self.ends | {token for token, text in enumerate(self.tokens.shown) if letters & {*text}}


class Answer:
    """The tokens of an answer as they come; `ended` once something ended it."""

    def __init__(self, ending: Ending, prompt: str) -> None:
        self.ending = ending
        self.opened = prompt.rstrip().endswith(OPEN)
        self.tokens: list[int] = []
        self.ended = False
        self._thinks, self._begins = self.opened and not ending.keeps_thoughts, 0

    def add(self, token: int) -> None:
        """The next token."""
        self.tokens.append(token)
        if token not in self.ending.telling:
            return
        seen = self.ending.tokens.tokenizer.decode(
            self.tokens[max(self._begins, len(self.tokens) - self.ending.looks_back) :]
        )
        if self._thinks and CLOSE in seen:
            self._thinks, self._begins = False, len(self.tokens)
        elif not self._thinks:
            self._thinks = not self.ending.keeps_thoughts and OPEN in seen
            self.ended = not self._thinks and any(stop in seen for stop in self.ending.stops)
        self.ended = self.ended or token in self.ending.ends


def without_thought(text: str) -> tuple[str, bool, bool]:
    """A text without its thoughts, and whether it had closed ones or one without an end, which leaves no answer."""
    answer = re.sub(f"{OPEN}.*?{CLOSE}", "", text, flags=re.DOTALL)
    closed, unclosed = answer != text, OPEN in answer
    return "" if unclosed else answer.lstrip() if closed else text, closed, unclosed


def answer_text(answer: Answer, noted: Noted) -> str:
    """The text of an answer that is scored, and a note on it."""
    ending, tokens, tokenizer = answer.ending, answer.tokens, answer.ending.tokens.tokenizer
    special = {OPEN, CLOSE} & set(tokenizer.all_special_tokens)
    tokens = tokens[:-1] if tokens and tokens[-1] in ending.ends else tokens
    text = str(tokenizer.decode(tokens, skip_special_tokens=not special))
    stripped, closed, unclosed = without_thought(OPEN + text if answer.opened else text)
    text = text if ending.keeps_thoughts else stripped
    for stop in ending.stops:
        text = text.split(stop)[0]
    noted.closed.append(closed)
    noted.unclosed.append(unclosed)
    noted.cut.append(not answer.ended)
    return text
