"""A mixture: which source, and which of its sequences, stands at a position of a stage.

The order of sources is a short pattern that repeats. It is built so that at every prefix each source's count differs
from its share by less than one sequence; a source's sequences are taken in a keyed permutation, re-keyed each epoch.
So the sample at a position is a pure function of mixture, seed and shards.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from smolmake.data.permutation import Places, permute, permute_each, round_keys

SMALLEST_PERIOD, LARGEST_PERIOD = 2**10, 2**22
SLOTS_OF_SMALLEST = 64


@dataclass(frozen=True)
class Place:
    """Where a sample comes from: the source, the number of its draw, its epoch, and the sequence drawn."""

    source: str
    draw: int
    epoch: int
    sequence: int


@dataclass(frozen=True)
class Draws:
    """Where samples come from, as arrays [N]: the source's index in the mixture's names, draw, epoch, sequence."""

    source: Places
    draw: Places
    epoch: Places
    sequence: Places


@dataclass(frozen=True)
class Mixture:
    """A mixture in force. `pattern` [P] holds indices into `names`; `first` is each source's first draw."""

    names: list[str]
    pattern: npt.NDArray[np.uint8]
    rank: npt.NDArray[np.uint32]
    counts: Places
    first: dict[str, int]
    sequence_length: int
    seed: int
    label: str

    def draws_before(self, position: int) -> dict[str, int]:
        """How many sequences of each source the positions before `position` hold, in constant time."""
        whole, rest = divmod(position, len(self.pattern))
        partial = np.bincount(self.pattern[:rest], minlength=len(self.names))
        return {name: int(whole * self.counts[i] + partial[i]) for i, name in enumerate(self.names)}

    def places(self, positions: Places, available: dict[str, int]) -> Draws:
        """Sources and sequences at `positions` [N]; `available` says how many sequences each source has."""
        whole, rest = np.divmod(np.asarray(positions, dtype=np.int64), len(self.pattern))
        source = self.pattern[rest].astype(np.int64)
        first = np.array([self.first[name] for name in self.names], dtype=np.int64)
        sizes = np.array([available[name] for name in self.names], dtype=np.int64)[source]
        draw: Places = np.asarray(first[source] + whole * self.counts[source] + self.rank[rest], dtype=np.int64)
        epoch, inside = np.divmod(draw, sizes)
        pairs = dict.fromkeys(zip(source.tolist(), epoch.tolist(), strict=True))
        numbers = {pair: number for number, pair in enumerate(pairs)}
        table = np.stack([self.keys(self.names[number], of_source) for number, of_source in numbers])
        keys = table[[numbers[pair] for pair in zip(source.tolist(), epoch.tolist(), strict=True)]]
        return Draws(source, draw, epoch, permute_each(inside, sizes, keys))

    def place(self, position: int, available: dict[str, int]) -> Place:
        """Source and sequence at a position."""
        found = self.places(np.array([position]), available)
        return Place(self.names[found.source[0]], int(found.draw[0]), int(found.epoch[0]), int(found.sequence[0]))

    def positions(self, name: str, sequence: int, available: int, end: int) -> list[int]:
        """The positions before `end` at which a sequence of a source stands: the inverse of `place`."""
        index = self.names.index(name)
        drawn = self.first[name] + self.draws_before(end)[name]
        found = []
        for epoch in range(self.first[name] // available, -(-drawn // available)):
            inside = permute(sequence, available, self._key(name, epoch), inverse=True)
            draw = epoch * available + inside - self.first[name]
            if 0 <= draw < drawn - self.first[name]:
                whole, rank = divmod(draw, int(self.counts[index]))
                found.append(whole * len(self.pattern) + int(np.flatnonzero(self.pattern == index)[rank]))
        return found

    def keys(self, name: str, epoch: int) -> npt.NDArray[np.uint64]:
        """The round keys of the permutation of a source's sequences in an epoch."""
        return round_keys(self._key(name, epoch))

    def _key(self, name: str, epoch: int) -> str:
        return f"{self.seed}/{self.label}/{name}/{epoch}"


def period_for(weights: dict[str, float]) -> int:
    """A power of two, so long that the rarest source has 64 slots: its share is within 1 % of what is asked."""
    wanted = SLOTS_OF_SMALLEST / min(weights.values())
    return min(max(1 << math.ceil(math.log2(wanted)), SMALLEST_PERIOD), LARGEST_PERIOD)


def slot_counts(weights: dict[str, float], period: int) -> dict[str, int]:
    """How many of `period` slots each source gets: largest remainders, at least one each."""
    exact = {name: weight * period for name, weight in weights.items()}
    counts = {name: max(1, math.floor(value)) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for i in range(period - sum(counts.values())):
        counts[order[i % len(order)]] += 1
    while sum(counts.values()) > period:
        counts[max(counts, key=lambda name: (counts[name], name))] -= 1
    return counts


def build_pattern(counts: list[int]) -> npt.NDArray[np.uint8]:
    """An order of sum(counts) slots in which every prefix of n slots holds source i within 1 of n * share_i.

    Earliest deadline first over the windows in which each copy keeps that bound; such an order exists for any counts
    (Tijdeman 1980, Steiner and Yeomans 1993). Copy k (from 0) of a source with c of P slots may stand at slot
    floor(k P / c) at the earliest and ceil((k + 1) P / c) - 1 at the latest.
    """
    period = sum(counts)
    pattern = np.empty(period, dtype=np.uint8)
    waiting = [(0, i, 0) for i, count in enumerate(counts) if count]  # (release, source, copy)
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int]] = []  # (deadline, source, copy)
    for slot in range(period):
        while waiting and waiting[0][0] <= slot:
            _, i, copy = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(copy + 1) * period // counts[i]) - 1, i, copy))
        _, i, copy = heapq.heappop(ready)
        pattern[slot] = i
        if copy + 1 < counts[i]:
            heapq.heappush(waiting, ((copy + 1) * period // counts[i], i, copy + 1))
    return pattern


def ranks(pattern: npt.NDArray[np.uint8], sources: int) -> npt.NDArray[np.uint32]:
    """For every slot, how many earlier slots hold the same source."""
    order = np.argsort(pattern, kind="stable")
    counts = np.bincount(pattern, minlength=sources)
    rank = np.empty(len(pattern), dtype=np.uint32)
    rank[order] = np.arange(len(pattern)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def make_mixture(description: dict[str, Any], pattern: npt.NDArray[np.uint8]) -> Mixture:
    """A mixture from mixture.json and pattern.npy."""
    names = list(description["sources"])
    return Mixture(
        names=names,
        pattern=pattern,
        rank=ranks(pattern, len(names)),
        counts=np.bincount(pattern, minlength=len(names)),
        first={name: about["first"] for name, about in description["sources"].items()},
        sequence_length=description["sequence_length"],
        seed=description["seed"],
        label=description["label"],
    )
