"""Texts of an evaluation as tokens, the way the lm-evaluation-harness makes them: many at once, each text once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from smolmake.data.chat import ChatFormat
from smolmake.data.hidden_text import NONCHARACTERS


class PromptTokens:
    """Tokens of texts by one tokenizer; what `encode` made is kept until `forget`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.chat = tokenizer, ChatFormat(tokenizer)
        bos: int | None = tokenizer.bos_token_id
        self.prefix: int = tokenizer.eos_token_id if bos is None else bos  # stands before a text that has no context
        self._prefix_text = str(tokenizer.decode(self.prefix))
        self._made: dict[tuple[str, bool], list[int]] = {}

    def encode(self, texts: Iterable[str], special: bool | None = None) -> list[list[int]]:
        """The tokens of each text; `special` as the tokenizer's `add_special_tokens`.

        In a conversation that `chat.prompt` rendered, messages are text alone. Where `special` is not given, the
        tokenizer adds what it always adds, but not to a text that begins with the token
        that stands before texts.
        """
        asked = [(text, self._adds(text) if special is None else special) for text in texts]
        for adds in (True, False):
            new = list({text: None for text, kind in asked if kind == adds and (text, adds) not in self._made})
            for text in filter(NONCHARACTERS.search, new):
                begin = self.tokenizer.encode("", add_special_tokens=adds)
                self._made[text, adds] = [*begin, *self.chat.encode_hidden(text).ids]
            new = [text for text in new if (text, adds) not in self._made]
            if new:
                found = self.tokenizer(new, add_special_tokens=adds, return_attention_mask=False, verbose=False)
                self._made.update(zip(((text, adds) for text in new), found["input_ids"], strict=True))
        return [self._made[key] for key in asked]

    @cached_property
    def shown(self) -> list[str]:
        """The text of each token of the vocabulary, behind another one: some tokenizers drop a text's first space."""
        before = self.tokenizer.encode("a", add_special_tokens=False)
        first = str(self.tokenizer.decode(before))
        texts = self.tokenizer.batch_decode([[*before, token] for token in range(len(self.tokenizer))])
        return [str(text).removeprefix(first) for text in texts]

    def forget(self) -> None:
        self._made.clear()

    def _adds(self, text: str) -> bool:
        return not text.startswith(self._prefix_text)
