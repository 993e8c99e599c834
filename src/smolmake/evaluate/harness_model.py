"""A model as the lm-evaluation-harness asks it: what it scores and writes is its hf backend's, faster.

But for the border of choices, which are scored by the tokens that they add, and for thoughts, which are no answers.
"""

from __future__ import annotations

import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import jinja2
import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, resolve_max_length
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import tqdm

from smolmake.data.chat import Messages
from smolmake.errors import UserError
from smolmake.evaluate.endings import Answer, Ending, Noted, answer_text
from smolmake.evaluate.engine import Engine
from smolmake.evaluate.generate import write
from smolmake.evaluate.prompt_tokens import PromptTokens
from smolmake.evaluate.shared_prefixes import Scored, common
from smolmake.evaluate.slots import Prompt
from smolmake.files import canonical_json

Tokens = list[int]
NEW_TOKENS = 256  # of an answer whose task names no limit, as the harness has it


class HarnessModel(LM):  # type: ignore[misc]
    """Asked by the harness; `noted` says by task what happened. Tasks in `keeps_thoughts` see answers whole."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, budget: int | None = None) -> None:
        super().__init__()
        self.model, self.tokenizer, self._device = model.eval(), tokenizer, model.device
        self.max_length = resolve_max_length(model.config, tokenizer)
        self.tokens = PromptTokens(tokenizer)
        pads = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id)
        self.pad: int = next(each for each in pads if each is not None)
        self.engine = Engine(model, self.max_length, budget)
        self.noted: dict[str, Noted] = defaultdict(Noted)
        self.keeps_thoughts: set[str] = set()
        self._warned: set[str] = set()

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return self.tokenizer.chat_template if chat_template else None

    def apply_chat_template(self, chat_history: Messages, add_generation_prompt: bool = True) -> str:
        """A conversation as text; without its system message where the template has no place for one."""
        try:
            return self._render(chat_history, add_generation_prompt)
        except jinja2.exceptions.TemplateError as error:
            rest = [message for message in chat_history if message["role"] != "system"]
            if len(rest) == len(chat_history):
                raise
            warning = f"evaluation: the chat template takes no system message, which is left out ({error})"
            if warning not in self._warned:
                print(warning, file=sys.stderr, flush=True)
            self._warned.add(warning)
            return self._render(rest, add_generation_prompt)

    def _render(self, messages: Messages, prompt: bool) -> str:
        """Up to where the assistant answers, or with the beginning of its answer as the last message.

        For `tokens`, which alone makes control tokens of the template's and none of what a message says.
        """
        if prompt:
            return self.tokens.chat.prompt(messages)
        return self.tokens.chat.prompt(messages[:-1]) + str(self.tokens.chat.hidden(messages[-1]["content"]))

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether it is the likeliest: of the tokens that it adds."""
        contexts = [context for context, _ in (request.args for request in requests)]
        texts = [context + continuation for context, continuation in (request.args for request in requests)]
        before = iter(self.tokens.encode(context.rstrip() for context in contexts if context))
        whole = iter(self.tokens.encode(text for context, text in zip(contexts, texts, strict=True) if context))
        alone = iter(
            self.tokens.encode((text for context, text in zip(contexts, texts, strict=True) if not context), False)
        )
        self.tokens.forget()
        scored = []
        for request, context in zip(requests, contexts, strict=True):
            pair = self._border(next(before), next(whole), request) if context else self._begin(next(alone))
            scored.append(self._scored(*pair, request))
        return self._score(scored, "loglikelihood", disable_tqdm)

    def _border(self, before: Tokens, whole: Tokens, request: Instance) -> tuple[Tokens, Tokens]:
        """The tokens of a context and those that a continuation adds.

        As the harness, which counts on from the number of tokens of the context without its last spaces, unless the two
        merge at the border: then from the first token that differs, which ends in the continuation's first letters.
        """
        added = whole[len(before) :]
        if request.args[1] and (whole[: len(before)] != before or not added):
            same = common(whole, before)
            before, added = whole[:same], whole[same:]
            self.noted[request.task_name].merged.add(request.doc_id)
        return before, added

    def _begin(self, added: Tokens) -> tuple[Tokens, Tokens]:
        """The same of a continuation without a context, which one token stands before."""
        if added and added[0] == self.tokens.prefix:
            return added[:1], added[1:]
        return [self.tokens.prefix], added

    def _scored(self, before: Tokens, added: Tokens, request: Instance) -> Scored:
        place = f"a choice of item {request.doc_id} of the task {request.task_name}"
        if not request.args[1] or not added:
            raise UserError(
                f"{place} adds no token to its question",
                key="evaluation", value=request.args[1], remedy="give each choice a text of its own",
            )  # fmt: skip
        if len(added) > self.max_length:
            raise UserError(
                f"{place} is longer than what the model reads",
                key="evaluation", value=f"{len(added)} of {self.max_length} tokens", remedy="take the item out",
            )  # fmt: skip
        noted = self.noted[request.task_name]
        noted.added[request.doc_id, request.idx] = len(added)
        if len(before) + len(added) > self.max_length + 1:
            noted.truncated.add(request.doc_id)
        return Scored([*(before or [self.tokens.prefix]), *added], len(added), (request.task_name, request.doc_id))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each text, read in windows as long as the model reads, cut as the harness cuts them."""
        windows, counts = list[Scored](), list[int]()
        for tokens in self.tokens.encode(request.args[0] for request in requests):
            cut = utils.get_rolling_token_windows(tokens, self.tokens.prefix, self.max_length, context_len=1)
            pairs = [utils.make_disjoint_window(window) for window in cut]
            windows += [Scored(before + added, len(added), len(windows) + n) for n, (before, added) in enumerate(pairs)]
            counts.append(len(pairs))
        self.tokens.forget()
        found = iter(self._score(windows, "loglikelihood_rolling", disable_tqdm))
        return [sum(next(found)[0] for _ in range(count)) for count in counts]

    def _score(self, requests: list[Scored], what: str, silent: bool) -> list[tuple[float, bool]]:
        with tqdm(total=len(requests), disable=silent, desc=f"Running {what} requests") as bar:
            return self.engine.score(requests, bar.update)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answer to each prompt, without its thoughts, up to a stop string."""
        answers = [""] * len(requests)
        groups: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            groups[canonical_json(request.args[1]), request.task_name in self.keeps_thoughts].append(number)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests") as bar:
            for (_, keeps), numbers in groups.items():
                texts = self._write([requests[number] for number in numbers], keeps, bar.update)
                for number, text in zip(numbers, texts, strict=True):
                    answers[number] = text
        return answers

    def _write(self, requests: list[Instance], keeps: bool, progress: Callable[[int], object]) -> list[str]:
        """The answers to requests that have the same settings."""
        settings: dict[str, Any] = normalize_gen_kwargs(requests[0].args[1], NEW_TOKENS)
        eos = self.tokenizer.decode(self.tokenizer.eos_token_id)
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
        ends = self.model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        ending, prompts, asked = Ending(self.tokens, stops, ends, keeps), list[Prompt](), Counter[tuple[Any, ...]]()
        for request, tokens in zip(requests, self.tokens.encode(r.args[0] for r in requests), strict=True):
            if len(tokens) > room:
                self.noted[request.task_name].truncated.add(request.doc_id)
            place = zlib.crc32(str(request.task_name).encode()), request.doc_id, request.idx
            seed = torch.initial_seed(), *place, asked[place]
            asked[place] += 1
            prompts.append(Prompt(tokens[-room:], Answer(ending, request.args[0]), seed))
        self.tokens.forget()
        write(self.engine, prompts, limit, self.pad, settings, progress)
        return [
            answer_text(prompt.answer, self.noted[request.task_name])
            for request, prompt in zip(requests, prompts, strict=True)
        ]
