"""Decontamination: which documents share a run of words with an item of the evaluation."""

from __future__ import annotations

from collections import Counter

import numpy as np

from smolmake.data.words import Numbers, Words, ngrams, words_of

FILTER_BITS = 22


class Contamination:
    """Word n-grams of the evaluation's items; a document that shares one is contaminated (as GPT-3, appendix C).

    Case, punctuation and white space do not count. Items shorter than n words cannot be found this way; the summary
    counts them.
    """

    def __init__(self, tasks: dict[str, list[str]], ngram: int) -> None:
        self.ngram = ngram
        self.tasks = sorted(tasks)
        self.items = [(task, number) for task in self.tasks for number in range(len(tasks[task]))]
        words = words_of([tasks[task][number] for task, number in self.items] or [""])
        hashes, owners = ngrams(words, ngram)
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.owners = hashes[order], owners[order]
        self.maybe = np.zeros(2**FILTER_BITS, dtype=bool)
        self.maybe[self.hashes >> np.uint64(64 - FILTER_BITS)] = True
        self.long_enough = np.diff(words.offsets) >= ngram
        self.found = np.zeros(len(self.items) + 1, dtype=bool)
        self.documents: Counter[str] = Counter()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be found."""
        return not len(self.hashes)

    def found_in(self, texts: Words) -> list[int]:
        """The numbers of the texts that share an n-gram with an item, which are counted."""
        hashes, numbers = ngrams(texts, self.ngram)
        likely = np.flatnonzero(self.maybe[hashes >> np.uint64(64 - FILTER_BITS)])
        hashes, numbers = hashes[likely], numbers[likely]
        low, high = (np.searchsorted(self.hashes, hashes, side) for side in ("left", "right"))
        hit = np.flatnonzero(high > low)
        for text in np.unique(numbers[hit]).tolist():
            of_text = hit[numbers[hit] == text]
            owners: Numbers = np.unique(
                np.concatenate([self.owners[a:b] for a, b in zip(low[of_text], high[of_text], strict=True)])
            )
            self.found[owners] = True
            self.documents.update({self.items[owner][0] for owner in owners.tolist()})
        return [int(number) for number in np.unique(numbers[hit])]

    def summary(self) -> dict[str, dict[str, int]]:
        """For each task: its items, how many are long enough to be found, were found, and in how many documents."""
        counts: dict[str, dict[str, int]] = {
            task: {"items": 0, "items_long_enough": 0, "items_found": 0, "documents_dropped": self.documents[task]}
            for task in self.tasks
        }
        for number, (task, _) in enumerate(self.items):
            counts[task]["items"] += 1
            counts[task]["items_long_enough"] += int(self.long_enough[number])
            counts[task]["items_found"] += int(self.found[number])
        return counts

    def found_items(self) -> list[int]:
        """The numbers of the items found, so that parts can be added up."""
        return np.flatnonzero(self.found).tolist()

    def add(self, found_items: list[int], documents: dict[str, int]) -> None:
        """Add what another part found."""
        self.found[found_items] = True
        self.documents.update(documents)
