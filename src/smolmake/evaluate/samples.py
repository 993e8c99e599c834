"""What a checkpoint writes: continuations of prompts, and answers in both reasoning modes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

BASE_TOKENS, CHAT_TOKENS = 48, 64


def write_samples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    chat_prompts: list[str],
    template: str | None,
) -> list[dict[str, str]]:
    """Greedy continuations, so that a sample shows the model and not its luck."""
    samples = []
    for prompt in prompts:
        text = generate(model, tokenizer, [prompt], BASE_TOKENS)[0]
        samples.append({"kind": "continuation", "mode": "", "prompt": prompt, "text": text})
    for prompt in chat_prompts if template is not None else []:
        for thinking in (True, False):
            assert template is not None
            messages = [{"role": "user", "content": prompt}]
            rendered = render_prompt(tokenizer, template, messages, enable_thinking=thinking)
            text = generate(model, tokenizer, [rendered], CHAT_TOKENS)[0]
            mode = "think" if thinking else "no_think"
            samples.append({"kind": "chat", "mode": mode, "prompt": prompt, "text": text})
    return samples


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    max_new_tokens: int,
    temperature: float = 0.0,
) -> list[str]:
    """Continue prompts in one left-padded batch, up to the end of a turn or of the text; special tokens left out."""
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    stops = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>"), model.config.eos_token_id]
    sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    output = model.generate(  # type: ignore[operator]
        **encoded.to(model.device),
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted({stop for stop in stops if isinstance(stop, int)}),
        pad_token_id=tokenizer.pad_token_id,
        **sampling,
    )
    width = encoded["input_ids"].shape[1]
    return [str(text) for text in tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)]


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
