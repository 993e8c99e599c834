"""Conversations as a chat template writes them: rendered, encoded and masked by one way, in training and in inference.

What a row says is text, whatever it says: only the template's own control tokens (<|im_start|> and the like) become
such tokens. So before a template sees a row, the characters that could make one are exchanged for Unicode's
noncharacters, one for one, and before the text is encoded they come back. Positions in the text stay what they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smolmake.data.hidden_text import FIRSTS, NAME_OF_OTHERS, NAMES, NONCHARACTERS, OTHERS, PIPE, shown
from smolmake.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

DATE = "01 July 2025"  # what a template prints as today, so that the same rows are the same tokens on every day
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
ANSWER_MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<code>", "</code>")  # an answer may have them
Messages = list[dict[str, Any]]
Span = tuple[int, int]


@dataclass(frozen=True)
class Encoded:
    """Token ids, whether each is learned (the template's generation markers), and the number of the turn it is of.

    Turns are those between generation markers, counted from 0; other tokens have -1.
    """

    text: str
    ids: list[int]
    turns: list[int]

    @property
    def learned(self) -> list[int]:
        return [int(turn >= 0) for turn in self.turns]


def render(template: str, messages: Messages, settings: dict[str, Any], prompt: bool = False) -> tuple[str, list[Span]]:
    """A conversation as text, and the spans of the text between generation markers; `prompt` ends it where the
    assistant is to answer. transformers renders it in a sandbox.
    """
    from transformers.utils.chat_template_utils import render_jinja_template  # a plan without conversations needs none

    present = [{key: value for key, value in message.items() if value is not None} for message in messages]
    texts, spans = render_jinja_template(  # type: ignore[str-unpack]
        [present],
        chat_template=template,
        add_generation_prompt=prompt,
        return_assistant_tokens_mask=GENERATION.search(template) is not None,
        **{"date_string": DATE, **settings},
    )
    return texts[0], spans[0] if spans else []  # type: ignore[return-value]


class ChatFormat:
    """A tokenizer with a chat template: its own, unless another is given."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template or tokenizer.chat_template or ""
        self.variables = dict(tokenizer.special_tokens_map)
        added = {token.content: (number, token) for number, token in tokenizer.added_tokens_decoder.items()}
        controls = [text for text, (_, token) in added.items() if token.special and text not in ANSWER_MARKS]
        longest = sorted(controls, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest)) or "(?!)")
        self._has_pipe = any("|" in token for token in controls)
        without_pipe = [re.escape(token) for token in longest if "|" not in token and token[0] in FIRSTS]
        self._other = re.compile("|".join(without_pipe) or "(?!)")
        names = dict(zip(FIRSTS, map(chr, NAMES), strict=True))
        self._names = {token: names.get(token[0], NAME_OF_OTHERS) + token[1:] for token in controls}
        self._tokenizer = _renamed(tokenizer, self._names)
        # The names are new to its vocabulary, so that they and the added tokens behind them have other ids there.
        self._ids = {
            self._tokenizer.token_to_id(self._names.get(text, text)): number for text, (number, _) in added.items()
        }
        self._control_ids = {added[text][0] for text in controls}
        self._name_ids = {self._tokenizer.token_to_id(name) for name in self._names.values()}

    def encode(self, messages: Messages, prompt: bool = False, **settings: Any) -> Encoded:
        """A conversation's tokens; `prompt` ends them where the assistant is to answer.

        Raises:
            UserError: if it has characters that Unicode gives no meaning, or no control token can be told from text.
        """
        return self.encode_hidden(*self._render(messages, prompt, settings))

    def prompt(self, messages: Messages, **settings: Any) -> str:
        """A conversation up to where the assistant answers, for `encode_hidden`: what could be a control token in it
        and is none stays exchanged."""
        return self._render(messages, True, settings)[0]

    def _render(self, messages: Messages, prompt: bool, settings: dict[str, Any]) -> tuple[str, list[Span]]:
        return render(self.template, self.hidden(messages), self.variables | self.hidden(settings), prompt)

    def encode_hidden(self, hidden: str, spans: Iterable[Span] = ()) -> Encoded:
        """The tokens of a rendered text in which what is no control token is exchanged."""
        text = shown(hidden)
        named = shown(self._control.sub(lambda found: self._names[found[0]], hidden))
        encoding = self._tokenizer.encode(named, add_special_tokens=False)
        ids = [self._ids.get(number, number) for number in encoding.ids]
        named_ids = [number in self._name_ids for number in encoding.ids]
        if named_ids != [number in self._control_ids for number in ids]:
            raise UserError(
                "this tokenizer makes a control token of plain text", value=self._control.findall(text),
                remedy="take the token's text out of the row, or take a tokenizer that splits it (a byte-level BPE)",
            )  # fmt: skip
        return Encoded(text, ids, _turns(encoding.offsets, list(spans)))

    def hidden(self, value: Any) -> Any:
        """What a row says, with other characters in place of those that could make a control token."""
        if isinstance(value, str):
            if found := NONCHARACTERS.search(value):
                raise UserError(
                    f"a text has U+{ord(found[0]):04X}, which is no character: Unicode leaves it to programs",
                    value=value, remedy="take it out of the text",
                )  # fmt: skip
            value = self._other.sub(lambda found: chr(OTHERS[FIRSTS.index(found[0][0])]) + found[0][1:], value)
            return value.replace("|", PIPE) if self._has_pipe else value
        if isinstance(value, dict):
            return {self.hidden(key): self.hidden(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.hidden(inner) for inner in value]
        return value


def _renamed(tokenizer: PreTrainedTokenizerBase, names: dict[str, str]) -> Tokenizer:
    """The same tokenizer, which knows its control tokens by names that no text has."""
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    return Tokenizer.from_str(json.dumps(state | {"truncation": None, "padding": None, "post_processor": None}))


def _turns(offsets: list[Span], spans: list[Span]) -> list[int]:
    """For each token the number of the span that it overlaps, or -1."""
    turns, number = [], 0
    for start, end in offsets:
        while number < len(spans) and spans[number][1] <= start:
            number += 1
        turns.append(number if number < len(spans) and end > spans[number][0] else -1)
    return turns
