"""Which tokens of many requests are encoded once: those that the choices of a question share, and a task's examples.

A row is what the model reads of one question: the tokens that its choices have in common, then the rest of each, which
sees the common ones and itself. Rows that begin alike share their beginning, which is then encoded before them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

Tokens = list[int]
SEEN = 16
LEAST_SAVED = 2_048  # tokens that a prefix must save to be read apart


@dataclass(frozen=True)
class Scored:
    """Tokens, of which the last `count` are scored, each by those before it. Requests of one group share a row."""

    tokens: list[int]
    count: int
    group: Hashable

    @property
    def first(self) -> int:
        """The position of the first token whose prediction is scored."""
        return len(self.tokens) - self.count - 1


@dataclass(frozen=True)
class Branch:
    """A request of a row, by its number, and what it adds to the row's stem."""

    number: int
    tokens: Tokens


@dataclass(frozen=True)
class Row:
    """What is read of one question: tokens that all branches begin with, then each branch's own."""

    stem: Tokens
    branches: list[Branch]
    first: int  # the first position of which a prediction is needed

    @property
    def width(self) -> int:
        return len(self.stem) + sum(len(branch.tokens) for branch in self.branches)

    @property
    def forks(self) -> bool:
        """Whether a token must not see one before it."""
        return sum(bool(branch.tokens) for branch in self.branches) > 1


@dataclass(frozen=True)
class Batch:
    """Rows that are read together, and how many tokens at the beginning they share."""

    prefix: int
    rows: list[Row]

    @property
    def width(self) -> int:
        """Tokens of the longest row behind the prefix."""
        return max(row.width for row in self.rows) - self.prefix


def common(first: Tokens, second: Tokens) -> int:
    """How many tokens two sequences begin with alike, by halving, since comparing slices is quick."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle - 1)
    return low


def make_rows(requests: list[Scored], limit: int, shared: bool = True) -> list[Row]:
    """A row for each group of requests; more where its branches together would be longer than `limit`."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for number, request in enumerate(requests):
        groups[request.group if shared else number].append(number)
    return [row for numbers in groups.values() for row in _rows_of(requests, numbers, limit)]


def _rows_of(requests: list[Scored], numbers: list[int], limit: int) -> Iterator[Row]:
    fed = [requests[number].tokens[:-1] for number in numbers]
    shared = min(common(fed[0], tokens) for tokens in fed)
    branches, width, first = list[Branch](), shared, shared
    for number, tokens in zip(numbers, fed, strict=True):
        if branches and width + len(tokens) - shared > limit:
            yield Row(fed[0][:shared], branches, first)
            branches, width, first = [], shared, shared
        branches.append(Branch(number, tokens[shared:]))
        width, first = width + len(tokens) - shared, min(first, requests[number].first)
    yield Row(fed[0][:shared], branches, first)


def shared_runs(rows: list[Row], least: int) -> list[tuple[int, list[Row]]]:
    """Rows by the prefix that they share: its length, and the rows, such that most tokens are saved over all.

    A prefix must save `least` tokens; it ends before the first prediction that is needed. Rows without one come last,
    with length 0.
    """
    keys = sorted(((row.stem[: row.first], row) for row in rows), key=lambda pair: pair[0])
    found: list[tuple[int, list[Row]]] = []
    alone, end = list[Row](), 0
    for length, start, stop in _best_cuts([key for key, _ in keys], least):
        alone += [row for _, row in keys[end:start]]
        found.append((length, [row for _, row in keys[start:stop]]))
        end = stop
    alone += [row for _, row in keys[end:]]
    return [*found, (0, alone)] if alone else found


def _best_cuts(keys: list[Tokens], least: int) -> list[tuple[int, int, int]]:
    """Runs of sorted sequences, each with the length that it shares: (length, first, end).

    The runs form a tree (one that shares more lies in one that shares less), which is climbed from the leaves: a run is
    taken whole unless its parts save more.
    """
    open_runs: list[tuple[int, int, int, list[tuple[int, int, int]]]] = []  # length, first, saved by parts, parts
    lengths = [common(one, other) for one, other in zip(keys, keys[1:], strict=False)]
    for number, length in enumerate([*lengths, -1], 1):
        first, saved, parts = number - 1, 0, list[tuple[int, int, int]]()
        while open_runs and open_runs[-1][0] > length:
            shared, first, others, inner = open_runs.pop()
            saved, parts = saved + others, inner + parts
            if (whole := shared * (number - first - 1)) >= max(least, saved + 1):
                saved, parts = whole, [(shared, first, number)]
        if open_runs and open_runs[-1][0] == length:
            shared, first, others, inner = open_runs.pop()
            saved, parts = saved + others, inner + parts
        if length >= 0:
            open_runs.append((length, first, saved, parts))
    return parts


def make_batches(runs: list[tuple[int, list[Row]]], budget: int, align: int) -> Iterator[Batch]:
    """Rows of a run, longest first, in batches of `budget` tokens with their padding, never fewer than one row.

    Memory and time also grow with what each token sees, so that a prefix counts too, by one token in `SEEN`. Without a
    prefix, rows that fork are apart from those that need no mask.
    """
    for shared, run in runs:
        prefix = shared - shared % align
        kinds = [run] if prefix else [[row for row in run if row.forks], [row for row in run if not row.forks]]
        for rows in kinds:
            rows.sort(key=lambda row: -row.width)
            first = 0
            while first < len(rows):
                count = max(1, int(budget / (rows[first].width - prefix + prefix / SEEN)))
                yield Batch(prefix, rows[first : first + count])
                first += count
