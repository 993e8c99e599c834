"""Answers that a model writes: many side by side, each as transformers' `generate` would write it alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from smolmake.evaluate.endings import Answer
from smolmake.evaluate.engine import Engine
from smolmake.evaluate.slots import Draw, Prompt, Slots

# Settings of transformers' `generate` that slots follow, and those that change no token of an answer.
FOLLOWED = {"do_sample", "temperature", "top_k", "top_p", "min_p"}
IDLE = {"bos_token_id", "eos_token_id", "pad_token_id", "max_length", "max_new_tokens", "use_cache",
        "transformers_version", "_from_model_config", "cache_implementation"}  # fmt: skip
NO_TOKENS: Any = torch.empty(0, dtype=torch.long)  # those before, which the settings followed do not look at


@torch.inference_mode()
def write(
    engine: Engine,
    prompts: list[Prompt],
    limit: int,
    pad: int,
    settings: dict[str, Any],
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Fill the answers to prompts, of at most `limit` tokens, by settings of transformers' `generate`.

    Sampled answers follow each prompt's own seed, and do not depend on what is written beside them.
    """
    wanted = _in_force(engine.model, settings)
    foreign = sorted(wanted.keys() - FOLLOWED - IDLE)
    reason = f"of {', '.join(foreign)}" if foreign else engine.obstacle and f"since {engine.obstacle}"
    if not reason:
        Slots(engine, _draw(wanted), limit, len(prompts), max(len(each.tokens) for each in prompts)).run(
            prompts, progress
        )
        return
    print(f"evaluation: answers are written batch after batch, {reason}", file=sys.stderr, flush=True)
    longest = sorted(prompts, key=lambda prompt: -len(prompt.tokens))
    while longest:
        batch = longest[: max(1, engine.budget // (len(longest[0].tokens) + limit))]
        _write_batch(engine.model, batch, limit, pad, settings)
        progress(len(batch))
        del longest[: len(batch)]


def _in_force(model: PreTrainedModel, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of `generate` that are not its defaults: those given, then the model's own."""
    assert model.generation_config is not None
    default = {**GenerationConfig().to_dict(), **GenerationConfig._get_default_generation_params()}
    wanted = {**model.generation_config.to_dict(), **settings}
    return {
        name: value
        for name, value in wanted.items()
        if value is not None and value is not False and (name not in default or value != default[name])
    }


def _draw(settings: dict[str, Any]) -> Draw:
    """How a token is chosen from logits [answers, vocabulary]: the likeliest, or by a number in [0, 1) for each."""
    if not settings.get("do_sample"):
        return lambda logits, _: logits.float().argmax(dim=-1)
    warpers = LogitsProcessorList()
    if (temperature := settings.get("temperature", 1.0)) != 1.0:
        warpers.append(TemperatureLogitsWarper(temperature))
    if top_k := settings.get("top_k", 50):
        warpers.append(TopKLogitsWarper(top_k))
    if (top_p := settings.get("top_p", 1.0)) < 1.0:
        warpers.append(TopPLogitsWarper(top_p))
    if (min_p := settings.get("min_p")) is not None:
        warpers.append(MinPLogitsWarper(min_p))

    def draw(logits: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
        reached = warpers(NO_TOKENS, logits.float()).softmax(dim=-1).cumsum(dim=-1)
        return (reached <= chances[:, None] * reached[:, -1:]).sum(dim=-1)

    return draw


def _write_batch(model: PreTrainedModel, prompts: list[Prompt], limit: int, pad: int, settings: dict[str, Any]) -> None:
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
                answer.add(token)
        return torch.tensor([answer.ended for answer in self.answers], device=input_ids.device)
