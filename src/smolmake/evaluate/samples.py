"""What a checkpoint writes: continuations of prompts, and answers in both reasoning modes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smolmake.data.chat import ChatFormat

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
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        text = generate(model, tokenizer, [ids], BASE_TOKENS)[0]
        samples.append({"kind": "continuation", "mode": "", "prompt": prompt, "text": text})
    if template is None:
        return samples
    chat = ChatFormat(tokenizer, template)
    for prompt in chat_prompts:
        for thinking in (True, False):
            encoded = chat.encode([{"role": "user", "content": prompt}], prompt=True, enable_thinking=thinking)
            text = generate(model, tokenizer, [encoded.ids], CHAT_TOKENS)[0]
            mode = "think" if thinking else "no_think"
            samples.append({"kind": "chat", "mode": mode, "prompt": prompt, "text": text})
    return samples


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
) -> list[str]:
    """Continue prompts in one left-padded batch, up to the end of a turn or of the text; special tokens left out."""
    encoded = tokenizer.pad({"input_ids": prompts}, return_tensors="pt", padding_side="left")
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
