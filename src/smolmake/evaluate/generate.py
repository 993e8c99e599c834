"""Answers that a model writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from smolmake.evaluate.endings import Answer


@dataclass(frozen=True)
class Prompt:
    """Tokens to go on from, and the answer to fill."""

    tokens: list[int]
    answer: Answer


@torch.inference_mode()
def write_plainly(
    model: PreTrainedModel, prompts: list[Prompt], limit: int, pad: int, settings: dict[str, Any]
) -> None:
    """Fill the answers by transformers' own `generate`, all prompts in one batch, padded in front."""
    width = max(len(prompt.tokens) for prompt in prompts)
    tokens = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt.tokens) :] = torch.tensor(prompt.tokens)
        mask[row, width - len(prompt.tokens) :] = 1
    model.generate(  # type: ignore[operator]
        input_ids=tokens.to(model.device),
        attention_mask=mask.to(model.device),
        max_length=width + limit,
        stopping_criteria=StoppingCriteriaList([_Ends([prompt.answer for prompt in prompts])]),
        pad_token_id=pad,
        use_cache=True,
        **settings,
    )


class _Ends(StoppingCriteria):
    """Adds each token to its answer, and ends the rows of answers that ended."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        for answer, token in zip(self.answers, input_ids[:, -1].tolist(), strict=True):
            if not answer.ended:
                answer.add([token])
        return torch.tensor([answer.ended for answer in self.answers], device=input_ids.device)
