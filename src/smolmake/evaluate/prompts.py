"""Conversations as prompts: the text up to where the assistant answers."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase


def render_prompt(
    tokenizer: PreTrainedTokenizerBase, template: str | None, messages: list[dict[str, str]], **settings: Any
) -> str:
    """A conversation as text up to where the assistant answers, by a template or, without one, the tokenizer's own.

    transformers renders it in a sandbox.
    """
    text = tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True, **settings
    )
    return str(text)
