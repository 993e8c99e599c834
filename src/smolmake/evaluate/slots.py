"""Answers that grow side by side, each in a slot that takes the next prompt once its answer ended."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from smolmake.evaluate.endings import Answer
from smolmake.evaluate.engine import Engine, chosen_logits
from smolmake.evaluate.shared_prefixes import LEAST_SAVED, Batch, Branch, Row, shared_runs

GPU_SLOTS, CPU_SLOTS = 256, 32
GPU_STEPS = 8  # between two looks at what was written: an answer that ended grows on until then
MEMORY = 0.6  # of what a GPU has free, for keys and values
Draw = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Prompt:
    """Tokens to go on from, the answer to fill, and the seed of a sampled one."""

    tokens: list[int]
    answer: Answer
    seed: tuple[int, ...] = ()


class Slots:
    """Room for `count` answers to prompts of at most `longest` tokens.

    What a step of all slots needs stays on the device: the tokens that came last, their places, and the numbers that
    sampling follows. On a GPU a step is captured once as a CUDA graph for each width that attention reads.
    """

    def __init__(self, engine: Engine, draw: Draw, limit: int, count: int, longest: int) -> None:
        self.engine, self.draw, self.limit, self.device = engine, draw, limit, engine.device
        self.on_gpu = self.device.type == "cuda"
        self.stride, self.grain = (GPU_STEPS, 128) if self.on_gpu else (1, 16)
        self.capacity = -(-(longest + limit + self.stride) // self.grain) * self.grain
        layers = engine.encoded([0]).layers
        engine.forget()
        count = min(count, self._fitting(layers))
        self.answers: list[Answer | None] = [None] * count
        self.used = [0] * count  # tokens of each slot, as the host knows them
        self.tokens, self.places, self.written = (
            torch.zeros(count, dtype=torch.long, device=self.device) for _ in range(3)
        )
        self.chances = torch.zeros(count, limit + self.stride, device=self.device)
        self.layers = [_SlotLayer(layer, count, self.capacity, self) for layer in layers]
        self.cache = Cache(layers=[*self.layers])
        self.width = 0
        self._graphs: dict[int, Any] = {}
        self._captures = self.on_gpu
        self._begin_pool()

    def _begin_pool(self) -> None:
        """The memory that the graphs use one after the other; a pool ends with the last graph that used it."""
        self._pool = torch.cuda.graph_pool_handle() if self.on_gpu else None

    def _fitting(self, layers: list[Any]) -> int:
        if not self.on_gpu:
            return CPU_SLOTS
        torch.cuda.empty_cache()  # what is kept for reuse does not count as free
        size = sum(each.numel() * each.element_size() for layer in layers for each in (layer.keys, layer.values))
        return max(1, min(GPU_SLOTS, int(MEMORY * torch.cuda.mem_get_info()[0] / (size * self.capacity))))

    def run(self, prompts: list[Prompt], progress: Callable[[int], object]) -> None:
        """Fill the answers to all prompts, the longest prompts first."""
        rows = [Row(each.tokens, [Branch(n, [])], len(each.tokens) - 1) for n, each in enumerate(prompts)]
        waiting = deque(
            (prefix, row)
            for prefix, run in shared_runs(rows, LEAST_SAVED)
            for row in sorted(run, key=lambda row: -row.width)
        )
        left = len(prompts)
        while left:
            while waiting and len(free := self._free()) * 8 >= len(self.answers):
                self._admit(free, waiting, prompts)
            if not waiting and len(self._free()) * (2 if self.on_gpu else 4) >= len(self.answers):
                self._shrink()
            if any(self.answers):
                self._advance()
            done = left - len(waiting) - sum(answer is not None for answer in self.answers)
            left -= done
            progress(done)
        self.engine.forget()
        self.layers, self.cache = [], Cache(layers=[])  # they hold on to these slots, and so would keep their memory

    def _free(self) -> list[int]:
        return [slot for slot, answer in enumerate(self.answers) if answer is None]

    def _admit(self, free: list[int], waiting: deque[tuple[int, Row]], prompts: list[Prompt]) -> None:
        """Read prompts of one prefix into free slots, and begin their answers."""
        prefix = waiting[0][0]
        shared, rows = prefix - prefix % self.engine.align, list[Row]()
        most = self.engine.budget // max(1, waiting[0][1].width - shared)
        while waiting and waiting[0][0] == prefix and len(rows) < min(len(free), max(1, most)):
            rows.append(waiting.popleft()[1])
        tokens, given = self.engine.inputs(Batch(shared, rows), keep=True)
        lengths = [row.width for row in rows]
        last = [n * tokens.shape[1] + length - shared - 1 for n, length in enumerate(lengths)]
        logits = chosen_logits(self.engine.model, tokens, torch.tensor(last).to(self.device), **given)
        slots = free[: len(rows)]
        where = torch.tensor(slots).to(self.device)
        for own, read in zip(self.layers, given["past_key_values"].layers, strict=True):
            reach = min(self.capacity, read.keys.shape[-2])
            own.keys[where, :, :reach], own.values[where, :, :reach] = (
                read.keys[:, :, :reach],
                read.values[:, :, :reach],
            )
        asked = [prompts[row.branches[0].number] for row in rows]
        drawn = [np.random.default_rng(each.seed).random(self.chances.shape[1], np.float32) for each in asked]
        self.chances[where] = torch.from_numpy(np.stack(drawn)).clamp(max=1 - 1e-6).to(self.device)
        self.tokens[where] = self.draw(logits, self.chances[where, 0])
        self.places[where], self.written[where] = torch.tensor(lengths).to(self.device), 1
        for slot, prompt, length, token in zip(slots, asked, lengths, self.tokens[where].tolist(), strict=True):
            self.answers[slot], self.used[slot] = prompt.answer, length
            self._take(slot, [token])

    def _take(self, slot: int, tokens: list[int]) -> None:
        """Tokens that a slot wrote; the slot is free once its answer ended or is as long as it may be."""
        answer = self.answers[slot]
        assert answer is not None
        for token in tokens:
            answer.add(token)
            if answer.ended or len(answer.tokens) == self.limit:
                self.answers[slot] = None
                return

    def _advance(self) -> None:
        """Some steps of all slots, then a look at what they wrote."""
        active = [slot for slot, answer in enumerate(self.answers) if answer is not None]
        reach = max(self.used[slot] for slot in active) + self.stride
        width = -(-reach // self.grain) * self.grain
        taken = []
        for _ in range(self.stride):
            self._step(width)
            taken.append(self.tokens.clone())
        written = torch.stack(taken, dim=1).tolist()
        for slot in active:
            self.used[slot] += self.stride
            self._take(slot, written[slot])

    def _step(self, width: int) -> None:
        if self._captures and width not in self._graphs:
            self._capture(width)
        if width in self._graphs:
            self._graphs[width].replay()
        else:
            self._grow(width)

    def _grow(self, width: int) -> None:
        """One token more in each slot, free ones too; attention reads `width` places."""
        self.width = width
        dtype = self.engine.model.dtype
        hidden = torch.arange(width, device=self.device)[None] > self.places[:, None]
        mask = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(hidden, float("-inf"))
        logits = self.engine.model(
            self.tokens[:, None],
            attention_mask=mask[:, None, None],
            position_ids=self.places[:, None].clamp(max=self.engine.max_length - 1),
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        self.tokens.copy_(self.draw(logits, self.chances.gather(1, self.written[:, None])[:, 0]))
        self.places.add_(1).clamp_(max=self.capacity - 1)
        self.written.add_(1).clamp_(max=self.chances.shape[1] - 1)

    def _capture(self, width: int) -> None:
        """A step as a CUDA graph. The steps that warm it up write where the next ones write again."""
        state = [each.clone() for each in (self.tokens, self.places, self.written)]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                self._grow(width)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                self._grow(width)
            self._graphs[width] = graph
        except RuntimeError as error:
            self._captures = False
            print(f"evaluation: steps are not captured as a CUDA graph: {error}", file=sys.stderr, flush=True)
        for own, kept in zip((self.tokens, self.places, self.written), state, strict=True):
            own.copy_(kept)

    def _shrink(self) -> None:
        """Leave out the free slots, once no prompt waits for them."""
        active = [slot for slot, answer in enumerate(self.answers) if answer is not None]
        where = torch.tensor(active, dtype=torch.long, device=self.device)
        self.answers, self.used = [self.answers[slot] for slot in active], [self.used[slot] for slot in active]
        self.tokens, self.places = self.tokens[where], self.places[where]
        self.written, self.chances = self.written[where], self.chances[where]
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[where], layer.values[where]
        self._graphs.clear()
        self._begin_pool()


class _SlotLayer(DynamicLayer):
    """A layer's keys and values [slots, heads, capacity, size]: a step writes one place of each slot."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, like: Any, count: int, capacity: int, slots: Slots) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(like.keys, like.values)
        _, heads, _, size = like.keys.shape
        self.keys = like.keys.new_zeros(count, heads, capacity, size)
        self.values = like.values.new_zeros(count, heads, capacity, like.values.shape[-1])
        self.slots = slots

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        rows, width = torch.arange(len(key_states), device=key_states.device), self.slots.width
        both = []
        for kept, new in ((self.keys, key_states), (self.values, value_states)):
            kept[rows, :, self.slots.places] = new[:, :, 0]
            both.append(kept[:, :, :width])
        return both
