"""Cleaning documents: which are dropped for what they are, the decontamination, and the held-out split.

Duplicates are found afterwards, over all of a source: see dedup.py.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from smolmake.data.decontaminate import Contamination
from smolmake.data.dedup import Signatures as Signature
from smolmake.data.dedup import signatures_of
from smolmake.data.documents import Document
from smolmake.data.ngrams import repeated_spans, units_of
from smolmake.data.texts import batches
from smolmake.recipe.sources import CleaningRules

EXAMPLES_PER_REASON = 3
BATCH_DOCUMENTS, BATCH_CHARACTERS = 256, 2**17  # so that the arrays of a batch stay in the processor's cache


@dataclass(frozen=True)
class Kept:
    """A document that is kept: 128 bits that identify its text, the text, whether it is held out, its MinHash."""

    fingerprint: bytes
    text: str
    heldout: bool
    signature: Signature | None

    @property
    def id(self) -> str:
        return self.fingerprint.hex()[:16]


@dataclass
class Counts:
    """What came of the documents of a source or of a part of one."""

    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def drop(self, reason: str, text: str) -> None:
        self.dropped[reason] += 1
        if self.dropped[reason] <= EXAMPLES_PER_REASON and text and is_unicode(text):
            self.examples.append({"reason": reason, "text": text[:200]})

    def add(self, other: dict[str, Any]) -> None:
        """Add what `summary` gave of another part."""
        self.read += other["read"]
        seen = Counter(example["reason"] for example in self.examples)
        for example in other["examples"]:
            if seen[example["reason"]] < EXAMPLES_PER_REASON:
                seen[example["reason"]] += 1
                self.examples.append(example)
        self.dropped.update(other["dropped"])

    def summary(self) -> dict[str, Any]:
        return {"read": self.read, "dropped": dict(sorted(self.dropped.items())), "examples": self.examples}


def clean(
    documents: Iterable[Document], rules: CleaningRules, contamination: Contamination, counts: Counts
) -> Iterator[Kept]:
    """The documents to keep, in the order given; `counts` is added to.

    Whether a document is held out is told by a hash of its text, so the split does not depend on its neighbours.
    """
    repeats, near = rules.repeated_ngrams, rules.near_duplicates
    for batch in batches(documents, attrgetter("text"), BATCH_DOCUMENTS, BATCH_CHARACTERS):
        reasons = [document.reason or simple_reason(document.text, rules) for document in batch]
        good = [i for i, reason in enumerate(reasons) if reason is None]
        texts = [batch[i].text for i in good]
        signatures: dict[int, Signature] = {}
        if texts and (repeats is not None or near is not None or not contamination.empty):
            units = units_of(texts)
            if repeats is not None:
                repeated = repeated_spans(units.with_signs, repeats.longest, repeats.times)
                for i in np.flatnonzero(repeated).tolist():
                    reasons[good[i]] = "repeated_ngrams"
            if not contamination.empty:
                for i in contamination.found_in(units.words):
                    reasons[good[i]] = reasons[good[i]] or "contaminated"
            if near is not None:
                hashes = signatures_of(units.words, near.ngram, near.permutations)
                signatures = dict(zip(good, hashes, strict=True))
        for number, (document, reason) in enumerate(zip(batch, reasons, strict=True)):
            counts.read += 1
            if reason is not None:
                counts.drop(reason, document.text)
                continue
            fingerprint = hashlib.sha256(document.text.encode()).digest()
            heldout = int.from_bytes(fingerprint[-4:], "big") < rules.heldout_fraction * 2**32
            yield Kept(fingerprint[:16], document.text, heldout, signatures.get(number))


def simple_reason(text: str, rules: CleaningRules) -> str | None:
    """Why the text alone, without others, is dropped; None if it is not."""
    if not is_unicode(text):
        return "invalid_unicode"
    if len(text) < rules.min_characters:
        return "too_short"
    if len(text) > rules.max_characters:
        return "too_long"
    return None


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8: a JSON file can smuggle in half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
