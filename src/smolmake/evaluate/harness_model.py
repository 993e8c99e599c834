"""A model as the lm-evaluation-harness asks it: its own hf backend, but for the border of choices and for thoughts."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from smolmake.errors import UserError
from smolmake.files import canonical_json

OPEN, CLOSE = "<think>", "</think>"
Place = tuple[str, int]  # a task and the number of its item
Tokens = list[int]


@dataclass
class Noted:
    """What happened while a task was asked: numbers of items, or one entry an answer."""

    merged: set[int] = field(default_factory=set)  # a choice's first letters merge with the question's last token
    truncated: set[int] = field(default_factory=set)  # too long for the model: the beginning was left out
    closed: list[bool] = field(default_factory=list)  # a thought, or several, that ended
    unclosed: list[bool] = field(default_factory=list)
    cut: list[bool] = field(default_factory=list)  # the limit of tokens came first


class HarnessModel(HFLM):  # type: ignore[misc]
    """Asked by the harness; `noted` says by task what happened. Tasks in `keeps_thoughts` see answers whole."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self.noted: dict[str, Noted] = defaultdict(Noted)
        self.keeps_thoughts: set[str] = set()

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether it is the likeliest: of the tokens that it adds."""
        pairs = []
        for request in requests:
            context, continuation = request.args
            before, added = self._pair(context, continuation, request)
            if len(before) + len(added) > self.max_length + 1:
                self.noted[request.task_name].truncated.add(request.doc_id)
            pairs.append(((context, continuation), before, added))
        found: list[tuple[float, bool]] = self._loglikelihood_tokens(pairs, disable_tqdm=disable_tqdm)
        return found

    def _pair(self, context: str, continuation: str, request: Instance) -> tuple[Tokens, Tokens]:
        """The tokens of a context and those that a continuation adds.

        As the harness, which counts on from the number of tokens of the context without its last spaces, unless the two
        merge at the border: then from the first token that differs, which ends in the continuation's first letters.
        """
        if continuation and not context:
            added = self.tok_encode(continuation, add_special_tokens=False)
            starts = self.prefix_token_id == added[0]
            before, added = (added[:1], added[1:]) if starts else ([self.prefix_token_id], added)
        elif continuation:
            before, whole = self.tok_encode(context.rstrip()), self.tok_encode(context + continuation)
            added = whole[len(before) :]
            if whole[: len(before)] != before or not added:
                same = next((n for n, (a, b) in enumerate(zip(whole, before, strict=False)) if a != b), len(whole))
                before, added = whole[:same], whole[same:]
                self.noted[request.task_name].merged.add(request.doc_id)
        if not continuation or not added:
            raise UserError(
                f"a choice of item {request.doc_id} of the task {request.task_name} adds no token to its question",
                key="evaluation", value=continuation, remedy="give each choice a text of its own",
            )  # fmt: skip
        return before or [self.prefix_token_id], added

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answer to each prompt, without its thoughts, up to a stop string; equal settings in a batch."""
        answers = [""] * len(requests)
        groups: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            groups[canonical_json(request.args[1]), request.task_name in self.keeps_thoughts].append(number)
        for (_, keeps), numbers in groups.items():
            numbers.sort(key=lambda number: -len(self.tok_encode(requests[number].args[0])))
            for first in range(0, len(numbers), self.batch_size):
                batch = numbers[first : first + self.batch_size]
                texts = self._answer([requests[number] for number in batch], keeps)
                for number, text in zip(batch, texts, strict=True):
                    answers[number] = text
        return answers

    @torch.inference_mode()
    def _answer(self, requests: list[Instance], keeps: bool) -> list[str]:
        """The answers of one batch, whose requests have the same settings."""
        settings: dict[str, Any] = normalize_gen_kwargs(requests[0].args[1], self.max_gen_toks)
        eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        stops = [stop for stop in handle_stop_sequences(settings.pop("until", None), eos=eos) if stop]
        limit = settings.pop("max_gen_toks")
        room = self.max_length - limit
        if room <= 0:
            raise UserError(
                f"the task {requests[0].task_name} lets the model write as many tokens as it can read",
                key="evaluation", value=f"{limit} of {self.max_length} tokens",
                remedy="set `generation: {max_gen_toks: N}` of the suite, or generation_kwargs of the task, lower",
            )  # fmt: skip
        if not settings["do_sample"]:
            settings.pop("temperature", None)
        prompts = [request.args[0] for request in requests]
        tokens, mask = self.tok_batch_encode(prompts, truncation=self.truncation)
        for request, length in zip(requests, mask.sum(dim=1).tolist(), strict=True):
            if length > room:
                self.noted[request.task_name].truncated.add(request.doc_id)
        tokens, mask = tokens[:, -room:].to(self.device), mask[:, -room:].to(self.device)
        width = tokens.shape[1]
        opened = [prompt.rstrip().endswith(OPEN) for prompt in prompts]
        output = self.model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_length=width + limit,
            stopping_criteria=StoppingCriteriaList([Stops(self.tokenizer, stops, width, opened, keeps)]),
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            **settings,
        )[:, width:].tolist()
        return [
            self._finish(request, row, stops, limit, begun, keeps)
            for request, row, begun in zip(requests, output, opened, strict=True)
        ]

    def _finish(self, request: Instance, row: Tokens, stops: list[str], limit: int, begun: bool, keeps: bool) -> str:
        """A row's tokens as the answer that is scored, and a note on it."""
        special = {OPEN, CLOSE} & set(self.tokenizer.all_special_tokens)
        text: str = self.tok_decode(row, skip_special_tokens=not special)
        noted = self.noted[request.task_name]
        answer, closed, unclosed = without_thought(OPEN + text if begun else text)
        whole = text = text if keeps else answer
        for stop in stops:
            text = text.split(stop)[0]
        ends = self.model.generation_config.eos_token_id
        ends = {self.eot_token_id, *(ends if isinstance(ends, list) else [ends])}
        noted.closed.append(closed)
        noted.unclosed.append(unclosed)
        noted.cut.append(len(row) == limit and not ends & set(row) and text == whole)
        return text


def without_thought(text: str) -> tuple[str, bool, bool]:
    """A text without its thoughts, and whether it had closed ones or one without an end, which leaves no answer."""
    answer = re.sub(f"{OPEN}.*?{CLOSE}", "", text, flags=re.DOTALL)
    closed, unclosed = answer != text, OPEN in answer
    return "" if unclosed else answer.lstrip() if closed else text, closed, unclosed


class Stops(StoppingCriteria):
    """Ends a row once its answer holds a stop string; within a thought none counts, unless thoughts are kept."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: list[str], width: int, opened: list[bool], keeps: bool
    ) -> None:
        self.tokenizer, self.stops, self.keeps = tokenizer, stops, keeps
        self.thinks, self.begins = [each and not keeps for each in opened], [width] * len(opened)
        self.done = torch.zeros(len(opened), dtype=torch.bool)
        watched = [*stops, OPEN, CLOSE]
        self.looks_back = 2 + max(len(tokenizer.encode(each, add_special_tokens=False)) for each in watched)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        length, first = input_ids.shape[1], max(0, input_ids.shape[1] - self.looks_back)
        for row, (begin, recent) in enumerate(zip(self.begins, input_ids[:, first:].tolist(), strict=True)):
            if self.done[row]:
                continue
            seen = self.tokenizer.decode(recent[max(0, begin - first) :])
            if self.thinks[row] and CLOSE in seen:
                self.thinks[row], self.begins[row] = False, length
            elif not self.thinks[row]:
                self.thinks[row] = not self.keeps and OPEN in seen
                self.done[row] = not self.thinks[row] and any(stop in seen for stop in self.stops)
        return self.done.to(input_ids.device)
