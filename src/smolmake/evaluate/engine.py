"""Log-likelihoods of many requests: what they share is encoded once, and only the predictions that count are made."""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from smolmake.evaluate.shared_prefixes import LEAST_SAVED, Batch, Row, Scored, make_batches, make_rows, shared_runs

GPU_TOKENS, CPU_TOKENS = 16_384, 2_048  # of a batch, padding included
POSITIONS = 1_024  # whose probabilities are computed at once: float32 over the whole vocabulary
Answer = tuple[float, bool]


@dataclass(frozen=True)
class Selected:
    """Of a batch's predictions, those that count: where they stand, and the tokens that came."""

    positions: torch.Tensor  # [predictions], in the batch's tokens counted through
    targets: torch.Tensor  # [predictions]
    spans: list[tuple[int, int]]  # of each request: its number, and how many of them are its own


class Engine:
    """Scores requests with one model; `budget` is the number of tokens that it reads at once."""

    def __init__(self, model: PreTrainedModel, max_length: int, budget: int | None = None) -> None:
        self.model, self.max_length, self.device = model, max_length, model.device
        on_gpu = self.device.type == "cuda"
        self.budget = budget or (GPU_TOKENS if on_gpu else CPU_TOKENS)
        self.align = 8 if on_gpu else 1  # kernels for masked attention read eight columns at once
        self.obstacle = obstacle_to_sharing(model)
        self._encoded: tuple[list[int], DynamicCache] | None = None
        if self.obstacle:
            print(f"evaluation: prefixes are not shared, since {self.obstacle}", file=sys.stderr, flush=True)

    @torch.inference_mode()
    def score(
        self, requests: list[Scored], progress: Callable[[int], object] = lambda _: None, least: int = LEAST_SAVED
    ) -> list[Answer]:
        """For each request the log-likelihood of its scored tokens, and whether each of them was the likeliest.

        `progress` hears of how many requests are done. Tokens that the model cannot read are left out in front.
        """
        cut = [Scored(each.tokens[-(self.max_length + 1) :], each.count, each.group) for each in requests]
        rows = make_rows(cut, self.max_length, not self.obstacle)
        runs = [(0, rows)] if self.obstacle else shared_runs(rows, least)
        answers: list[Answer] = [(0.0, False)] * len(requests)
        waiting: deque[tuple[Selected, torch.Tensor]] = deque()

        def collect() -> None:  # one batch behind, so that the device does not wait for this
            selected, found = waiting.popleft()
            parts = torch.split(found.cpu(), [count for _, count in selected.spans], dim=1)
            for (number, _), (likelihoods, likeliest) in zip(selected.spans, parts, strict=True):
                answers[number] = float(likelihoods.sum(dtype=torch.float64)), bool(likeliest.all())
            progress(len(parts))

        for batch in make_batches(runs, self.budget, self.align):
            for read in self._read(batch, cut):
                waiting.append(read)
                if len(waiting) > 1:
                    collect()
        while waiting:
            collect()
        self.forget()
        return answers

    def _read(self, batch: Batch, requests: list[Scored]) -> Iterator[tuple[Selected, torch.Tensor]]:
        """The predictions of a batch; of its halves, and with half the budget from then on, where memory is short."""
        try:
            yield self._predict(batch, requests)
            return
        except torch.OutOfMemoryError:
            if len(batch.rows) == 1:
                raise
        torch.cuda.empty_cache()
        self.budget = max(1, self.budget // 2)
        print(f"evaluation: memory is short, batches of {self.budget} tokens from here on", file=sys.stderr, flush=True)
        half = len(batch.rows) // 2
        for rows in (batch.rows[:half], batch.rows[half:]):
            yield from self._read(Batch(batch.prefix, rows), requests)

    def _predict(self, batch: Batch, requests: list[Scored]) -> tuple[Selected, torch.Tensor]:
        tokens, given = self.inputs(batch)
        selected = self._select(batch, requests, tokens.shape[1])
        return selected, _likelihoods(chosen_logits(self.model, tokens, selected.positions, **given), selected.targets)

    def inputs(self, batch: Batch, keep: bool = False) -> tuple[torch.Tensor, dict[str, Any]]:
        """The tokens [rows, width] of a batch behind its prefix, and what the model is given beside them.

        Rows are padded behind. With `keep` the keys and values of all that the rows read are kept in `past_key_values`.
        """
        width = -(-batch.width // self.align) * self.align
        tokens = torch.zeros(len(batch.rows), width, dtype=torch.long)
        for number, row in enumerate(batch.rows):
            fed = [*row.stem[batch.prefix :], *(token for branch in row.branches for token in branch.tokens)]
            tokens[number, : len(fed)] = torch.tensor(fed)
        given: dict[str, Any] = {}
        if batch.prefix or batch.rows[0].forks:
            given = self._masked(batch, width)
        if batch.prefix:
            given["past_key_values"] = Shared(self.encoded(batch.rows[0].stem[: batch.prefix]), keep)
        elif keep:
            given["past_key_values"] = DynamicCache(config=self.model.config)
        return tokens.to(self.device), given

    def _select(self, batch: Batch, requests: list[Scored], width: int) -> Selected:
        positions, targets, spans = list[int](), list[int](), list[tuple[int, int]]()
        for number, row in enumerate(batch.rows):
            start, stem = number * width - batch.prefix, len(row.stem)
            behind = start + stem  # where the next branch begins
            for branch in row.branches:
                request = requests[branch.number]
                fed = range(request.first, request.first + request.count)
                positions += [start + place if place < stem else behind + place - stem for place in fed]
                targets += request.tokens[-request.count :]
                spans.append((branch.number, request.count))
                behind += len(branch.tokens)
        return Selected(torch.tensor(positions).to(self.device), torch.tensor(targets).to(self.device), spans)

    def _masked(self, batch: Batch, width: int) -> dict[str, torch.Tensor]:
        """Position ids [rows, width], and what each token sees: [rows, 1, width, prefix + width], 0 or -inf.

        A token sees the prefix, the stem and its own branch, up to itself; so does padding, of which nothing is read.
        """
        places = torch.zeros(len(batch.rows), width, dtype=torch.long)
        branches = torch.zeros(len(batch.rows), width, dtype=torch.long)
        for number, row in enumerate(batch.rows):
            places[number, : row.width - batch.prefix] = torch.tensor(_places(row)[batch.prefix :])
            owner = [index for index, branch in enumerate(row.branches, 1) for _ in branch.tokens]
            stem = len(row.stem) - batch.prefix
            branches[number, stem : stem + len(owner)] = torch.tensor(owner, dtype=torch.long)
        places, branches = places.to(self.device), branches.to(self.device)
        seen = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
        seen &= torch.ones(width, width, dtype=torch.bool, device=self.device).tril()
        mask = torch.zeros(len(batch.rows), 1, width, batch.prefix + width, dtype=self.model.dtype, device=self.device)
        mask[:, 0, :, batch.prefix :].masked_fill_(~seen, float("-inf"))
        return {"position_ids": places, "attention_mask": mask}

    def encoded(self, prefix: list[int]) -> DynamicCache:
        """The keys and values of a prefix; the last one's are kept, until `forget`."""
        if self._encoded is None or self._encoded[0] != prefix:
            cache = DynamicCache(config=self.model.config)
            tokens, last = torch.tensor([prefix]).to(self.device), torch.tensor([0]).to(self.device)
            chosen_logits(self.model, tokens, last, past_key_values=cache)
            self._encoded = prefix, cache
        return self._encoded[1]

    def forget(self) -> None:
        self._encoded = None


class Shared(Cache):
    """A prefix's keys and values in front of those of each row, which are kept behind it if asked."""

    def __init__(self, prefix: DynamicCache, keep: bool) -> None:
        super().__init__(layers=[_SharedLayer(layer, keep) for layer in prefix.layers])


class _SharedLayer(DynamicLayer):
    def __init__(self, prefix: Any, keep: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(prefix.keys, prefix.values)
        self.keys, self.values, self.keep = prefix.keys, prefix.values, keep

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        pairs = ((self.keys, key_states), (self.values, value_states))
        both = [torch.cat([kept.expand(len(own), -1, -1, -1), own], -2) for kept, own in pairs if kept is not None]
        if self.keep:
            self.keys, self.values = both
        return both


def chosen_logits(model: PreTrainedModel, tokens: torch.Tensor, chosen: torch.Tensor, **given: Any) -> torch.Tensor:
    """The logits [chosen, vocabulary] at places of a batch's tokens, counted through: the head sees no others."""

    def choose(_: torch.nn.Module, hidden: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (hidden[0].flatten(0, 1)[chosen][None], *hidden[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        logits: torch.Tensor = model(tokens, use_cache="past_key_values" in given, **given).logits
    finally:
        handle.remove()
    return logits[0]


def _likelihoods(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """For predictions, [2, predictions] in float32: the log-probability of what came, and whether it was likeliest."""
    found = []
    for part, came in zip(torch.split(logits, POSITIONS), torch.split(targets, POSITIONS), strict=True):
        exact = part.float()
        chosen = exact.gather(1, came[:, None])[:, 0]
        found.append(torch.stack([chosen - exact.logsumexp(dim=1), (part.argmax(dim=1) == came).float()]))
    return torch.cat(found, dim=1)


def _places(row: Row) -> list[int]:
    """The position of each token of a row in its own request."""
    stem = len(row.stem)
    return [*range(stem), *(stem + place for branch in row.branches for place in range(len(branch.tokens)))]


def obstacle_to_sharing(model: PreTrainedModel) -> str:
    """Why a model cannot read several choices in one row, each blind to the others; empty where it can."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if kinds:
        return f"the model has layers of {', '.join(sorted(kinds))}"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "the model attends in a sliding window"
    if rope in ("dynamic", "longrope"):
        return f"its positions depend on the longest text read at once (`{rope}`)"
    if getattr(config, "alibi", False) or "position_ids" not in inspect.signature(model.forward).parameters:
        return "the model takes no position ids"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention by {config._attn_implementation} takes no mask of this kind"
    return ""
