"""Decontamination: which documents share a run of words with an item of the evaluation."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np

from smolmake.data.ngrams import Hashes, Int64s, Words, ngrams, words_of

FILTER_BITS = 22, 27  # of the table that most n-grams are passed over by: at least, at most
BATCH_ITEMS = 1024


class Contamination:
    """Word n-grams of the evaluation's items; a document that shares one is contaminated (as GPT-3, appendix C).

    Case, punctuation and white space do not count. Items shorter than n words cannot be found this way; the summary
    counts them.
    """

    def __init__(self, tasks: dict[str, list[str]], ngram: int) -> None:
        self.ngram = ngram
        self.tasks = sorted(tasks)
        self.items = [(task, number) for task in self.tasks for number in range(len(tasks[task]))]
        hashes, owners, self.long_enough = self._ngrams(tasks)
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.owners = hashes[order], owners[order]
        bits = min(max(FILTER_BITS[0], len(hashes).bit_length() + 3), FILTER_BITS[1])
        self.shift = np.uint64(64 - bits)
        self.maybe = np.zeros(2**bits, dtype=bool)
        self.maybe[self.hashes >> self.shift] = True
        self.found = np.zeros(len(self.items) + 1, dtype=bool)
        self.documents: Counter[str] = Counter()

    def _ngrams(self, tasks: dict[str, list[str]]) -> tuple[Hashes, Int64s, Int64s]:
        """The hashes of all items' n-grams [G], the item of each [G], and whether an item has as many words [I]."""
        texts = (tasks[task][number] for task, number in self.items)
        hashes, owners, long_enough = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0, bool)]
        first = 0
        while batch := list(islice(texts, BATCH_ITEMS)):  # the items of hundreds of tasks at once would take gigabytes
            words = words_of(batch)
            some, of_batch = ngrams(words, self.ngram)
            hashes.append(some)
            owners.append(of_batch + first)
            long_enough.append(np.diff(words.offsets) >= self.ngram)
            first += len(batch)
        return np.concatenate(hashes), np.concatenate(owners), np.concatenate(long_enough)

    def afresh(self) -> Contamination:
        """The same items with nothing found yet."""
        other = copy.copy(self)
        other.found, other.documents = np.zeros_like(self.found), Counter()
        return other

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be found."""
        return not len(self.hashes)

    def found_in(self, texts: Words) -> list[int]:
        """The numbers of the texts that share an n-gram with an item, which are counted."""
        hashes, numbers = ngrams(texts, self.ngram)
        likely = np.flatnonzero(self.maybe[hashes >> self.shift])
        hashes, numbers = hashes[likely], numbers[likely]
        low, high = (np.searchsorted(self.hashes, hashes, side) for side in ("left", "right"))
        hit = np.flatnonzero(high > low)
        for text in np.unique(numbers[hit]).tolist():
            of_text = hit[numbers[hit] == text]
            owners: Int64s = np.unique(
                np.concatenate([self.owners[a:b] for a, b in zip(low[of_text], high[of_text], strict=True)])
            )
            self.found[owners] = True
            self.documents.update({self.items[owner][0] for owner in owners.tolist()})
        return [int(number) for number in np.unique(numbers[hit])]

    def summary(self) -> dict[str, dict[str, Any]]:
        """For each task: its items, how many are long enough to be found, were found, and in how many documents; and
        the numbers of those found."""
        counts: dict[str, dict[str, Any]] = {
            task: {"items": 0, "items_long_enough": 0, "items_found": 0, "documents_dropped": self.documents[task],
                   "found": []}
            for task in self.tasks
        }  # fmt: skip
        for number, (task, item) in enumerate(self.items):
            counts[task]["items"] += 1
            counts[task]["items_long_enough"] += int(self.long_enough[number])
            if self.found[number]:
                counts[task]["items_found"] += 1
                counts[task]["found"].append(item)
        return counts

    def found_items(self) -> list[int]:
        """The numbers of the items found, so that parts can be added up."""
        return np.flatnonzero(self.found).tolist()

    def add(self, found_items: list[int], documents: dict[str, int]) -> None:
        """Add what another part found."""
        self.found[found_items] = True
        self.documents.update(documents)
