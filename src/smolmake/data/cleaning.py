"""Cleaning one source: length filters, exact and near duplicates, decontamination, the held-out split."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rensa import RMinHash, RMinHashLSH

BANDS = 16
EXAMPLES_PER_REASON = 3
WORD = re.compile(r"\w+", re.UNICODE)


@dataclass
class Cleaned:
    """What came of a source: kept and held-out documents as (id, text), and the counts for the report."""

    kept: list[tuple[str, str]] = field(default_factory=list)
    heldout: list[tuple[str, str]] = field(default_factory=list)
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)
    overlap: dict[str, dict[str, int]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The content of cleaning.json."""
        return {
            "read": self.read,
            "kept": len(self.kept),
            "heldout": len(self.heldout),
            "bytes": sum(len(text.encode()) for _, text in self.kept),
            "dropped": dict(sorted(self.dropped.items())),
            "examples": self.examples,
            "overlap": self.overlap,
        }


def clean(texts: Iterable[str], settings: dict[str, Any], tasks: dict[str, list[str]]) -> Cleaned:
    """Clean documents in the order given.

    `settings` is the recipe's `cleaning`; `tasks` maps a task to the text of its items.

    A document is held out by a hash of its text, so the split does not depend on its neighbours.
    """
    result = Cleaned()
    seen: set[bytes] = set()
    near = NearDuplicates(**settings["near_duplicates"]) if settings["near_duplicates"] else None
    contamination = Contamination(tasks, settings["decontaminate_ngram"])
    for text in texts:
        result.read += 1
        fingerprint = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        reason = None
        if not is_unicode(text):
            reason = "invalid_unicode"
        elif len(text) < settings["min_characters"]:
            reason = "too_short"
        elif len(text) > settings["max_characters"]:
            reason = "too_long"
        elif settings["exact_duplicates"] and fingerprint in seen:
            reason = "exact_duplicate"
        elif contamination.found_in(text):
            reason = "contaminated"
        elif near is not None and near.is_duplicate(text):
            reason = "near_duplicate"
        seen.add(fingerprint)
        if reason is not None:
            result.dropped[reason] += 1
            if result.dropped[reason] <= EXAMPLES_PER_REASON and text and is_unicode(text):
                result.examples.append({"reason": reason, "text": text[:200]})
            continue
        document = (fingerprint.hex()[:16], text)
        held_out = int.from_bytes(fingerprint[-4:], "big") < settings["heldout_share"] * 2**32
        (result.heldout if held_out else result.kept).append(document)
    result.overlap = contamination.summary()
    return result


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8: a JSON file can smuggle in half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class NearDuplicates:
    """MinHash with locality-sensitive hashing (Broder 1997), by rensa: remembers every document that is new."""

    def __init__(self, similarity: float, ngram: int, permutations: int) -> None:
        self.similarity, self.ngram, self.permutations = similarity, ngram, permutations
        self.index = RMinHashLSH(threshold=similarity, num_perm=permutations, num_bands=BANDS)
        self.hashes: list[RMinHash] = []

    def is_duplicate(self, text: str) -> bool:
        """Whether an earlier document has at least the set Jaccard similarity, as MinHash estimates it."""
        words = WORD.findall(text.lower())
        shingles = [" ".join(words[i : i + self.ngram]) for i in range(max(1, len(words) - self.ngram + 1))]
        minhash = RMinHash(num_perm=self.permutations, seed=0)
        minhash.update(shingles)
        if any(minhash.jaccard(self.hashes[other]) >= self.similarity for other in self.index.query(minhash)):
            return True
        self.index.insert(len(self.hashes), minhash)
        self.hashes.append(minhash)
        return False


class Contamination:
    """Word n-grams of the evaluation items; a document that shares one is contaminated (as GPT-3, appendix C).

    Case, punctuation and white space do not count. Items shorter than n words cannot be found this way.
    """

    def __init__(self, tasks: dict[str, list[str]], ngram: int) -> None:
        self.ngram = ngram
        self.tasks = tasks
        self.owners: dict[str, set[tuple[str, int]]] = {}
        for task, items in tasks.items():
            for number, item in enumerate(items):
                for gram in self._ngrams(item):
                    self.owners.setdefault(gram, set()).add((task, number))
        self.items_found: set[tuple[str, int]] = set()
        self.dropped: Counter[str] = Counter()

    def found_in(self, text: str) -> bool:
        hits = set().union(*(self.owners[gram] for gram in self._ngrams(text) if gram in self.owners))
        self.items_found |= hits
        self.dropped.update({task for task, _ in hits})
        return bool(hits)

    def summary(self) -> dict[str, dict[str, int]]:
        return {
            task: {
                "items": len(items),
                "items_long_enough": sum(1 for item in items if next(self._ngrams(item), None) is not None),
                "items_found": sum(1 for owner, _ in self.items_found if owner == task),
                "documents_dropped": self.dropped[task],
            }
            for task, items in sorted(self.tasks.items())
        }

    def _ngrams(self, text: str) -> Iterator[str]:
        words = WORD.findall(text.lower())
        for i in range(len(words) - self.ngram + 1):
            yield " ".join(words[i : i + self.ngram])
