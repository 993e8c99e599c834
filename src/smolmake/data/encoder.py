"""Token ids of documents, the same as the reference `tokenizers` gives, from the fastest encoder that gives them.

gigatoken is some hundred times faster (benchmarks/data.py), but it is young. So it is compared with the reference on
odd texts before the first document, and on a few of the documents as the work goes on. Where one id differs, or where
it cannot read the tokenizer at all, the reference does the work.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Ids = npt.NDArray[np.uint32]
TokenCounts = npt.NDArray[np.int64]
CHECK_EVERY = 4000  # documents between two that are compared
CHECK_CHARACTERS = 20_000  # how much of such a document
# Bytes by which the process may have grown before the fast encoder, whose cache of words grows, is made anew: where
# texts are ordinary, and before a batch of so many characters, which takes some 20 bytes for each on its way.
GROWTH_LIMIT, GROWTH_BEFORE_HUGE, HUGE = 2**29, 2**26, 2**23
REFERENCE_BATCH = 2**22  # characters: the reference keeps about 200 bytes a token until a batch is done
ODD_TEXTS = [
    *("", "a", "é", "\0", "\0\0a\0", " ", "\n", " \n \n", "\t\t\r\n\r\n  x", "a" * 5000, " " * 3000, "\n" * 2000),
    *("🦉", "👨‍👩‍👧‍👦 family", "e\u0301", "ﬁ", "\u200b\u200d", "\ufeffBOM", "\U0010ffff", "a\0b\ufffdc"),
    *("\x85\u2028\u2029\u00a0\u3000 x", "\u0301\u0301\u0301", "½ ² Ⅷ ꘠", "don't DON'T it'Ll", "ſ'S'ſ it'ſ", "K'K K"),
    *("1234567890", "x1y22z333w4444", "3.14159e-10", "١٢٣ ४५६ ๑๒๓", "İstanbul ı Straße", "Ελληνικά", "ქართული"),
    *(
        "日本語のテキスト、です。",
        "简体中文与繁體中文。",
        "ภาษาไทยไม่มีช่องว่าง",
        "한국어 문장",
        "עברית",
        "العربية",
        "हिन्दी में",
    ),
    *(
        "def f(x):\n    return x  # done\n\n\n",
        "_-+=!?\n\n\nabc",
        "http://a.b/c?d=e&f#g",
        "<br/>\r\n<b>",
        "\\frac{1}{2}$$",
    ),
    *("the cat sat on the mat " * 20, "HelloWorld helloWORLD", "!!!???...,,,;;;:::", "    indented\n\ttabbed"),
]


class Encoder(Protocol):
    """Encodes a batch of texts."""

    name: str

    def encode(self, texts: list[str]) -> tuple[Ids, TokenCounts]:
        """The ids of all texts one after the other, and how many each text has.

        Raises:
            UnicodeEncodeError: if a text holds half of a surrogate pair, which has no bytes.
        """


class ReferenceEncoder:
    """The `tokenizers` library itself."""

    name = "tokenizers"

    def __init__(self, tokenizer: Tokenizer, batch: int = REFERENCE_BATCH) -> None:
        self.tokenizer, self.batch = tokenizer, batch

    def encode(self, texts: list[str]) -> tuple[Ids, TokenCounts]:
        ids: list[Ids] = []
        batch: list[str] = []
        size = 0
        for text in [*texts, None]:
            if batch and (text is None or size + len(text) > self.batch):
                encodings = self.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
                ids += [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]
                batch, size = [], 0
            if text is not None:
                text.encode()
                batch.append(text)
                size += len(text)
        flat = np.concatenate(ids) if ids else np.zeros(0, np.uint32)
        return flat, np.array([len(part) for part in ids], dtype=np.int64)


def _give_back() -> None:
    """Have the C library give freed memory back to the system, where it can (glibc)."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def resident_bytes() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


class FastEncoder:
    """gigatoken. Its cache of words grows with the text, so it is made anew when the process has grown."""

    name = "gigatoken"

    def __init__(self, description: str, huge: int = HUGE, resident: Callable[[], int] = resident_bytes) -> None:
        self.description, self.huge, self.resident = description, huge, resident
        self.backend: Any = None
        self._load()

    def _load(self) -> None:
        from gigatoken.gigatoken_rs import load_hf_json  # here: a machine that cannot load it has the reference

        self.backend = None  # its memory is free before the next one takes some
        _give_back()
        self.backend = load_hf_json(self.description)
        self.size_at_start = self.resident()

    def encode(self, texts: list[str]) -> tuple[Ids, TokenCounts]:
        if not texts:
            return np.zeros(0, np.uint32), np.zeros(0, np.int64)
        limit = GROWTH_LIMIT if sum(map(len, texts)) < self.huge else GROWTH_BEFORE_HUGE
        if self.resident() > self.size_at_start + limit:
            self._load()
        layout = self.backend.encode_batch(texts, parallel=False).layout
        offsets = np.asarray(layout.offsets.data, dtype=np.int64)
        ids = np.asarray(layout.content.data, dtype=np.uint32)[offsets[0] : offsets[-1]]
        return ids, np.diff(offsets)


class Mismatch(Exception):
    """The fast encoder gave other ids than the reference; what it encoded so far is not to be trusted."""


class CheckedEncoder:
    """The fast encoder, compared with the reference on some of the documents."""

    def __init__(self, fast: Encoder, reference: Encoder, every: int = CHECK_EVERY) -> None:
        self.fast, self.reference, self.every = fast, reference, every
        self.name = fast.name
        self.seen = 0

    def encode(self, texts: list[str]) -> tuple[Ids, TokenCounts]:
        """As `Encoder.encode`.

        Raises:
            Mismatch: if the two differ on a document that is checked, or if the fast encoder gives up.
        """
        first = -self.seen % self.every
        self.seen += len(texts)
        checked = [text[:CHECK_CHARACTERS] for text in texts[first :: self.every]]
        try:
            difference = first_difference(self.fast, self.reference, checked)
            encoded = self.fast.encode(texts)
        except BaseException as error:  # a panic in Rust is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            for text in texts:
                text.encode()
            raise Mismatch(f"gigatoken stopped: {error}") from None
        if difference is not None:
            raise Mismatch(f"gigatoken and tokenizers differ on {difference!r}")
        return encoded


def make_encoder(
    tokenizer: Tokenizer, special: bool = False, fast: bool = True, load: Callable[[str], Encoder] = FastEncoder
) -> Encoder:
    """The fastest encoder that agrees with the reference on odd texts; `load` makes it from the tokenizer's JSON.

    With `special`, the text of a special token becomes that token; without, it stays text.
    """
    description = json.loads(tokenizer.to_str()) | {"truncation": None, "padding": None}
    plain = Tokenizer.from_str(json.dumps(description))
    plain.encode_special_tokens = not special
    reference = ReferenceEncoder(plain)
    if not fast:
        return reference
    added = [token["content"] for token in description["added_tokens"]]
    if not special:
        description["added_tokens"] = [token for token in description["added_tokens"] if not token["special"]]
    odd = [*ODD_TEXTS, *added, *(f"a {token}b{token}{token}\n" for token in added)]
    try:
        candidate = load(json.dumps(description))
        difference = first_difference(candidate, reference, odd)
    except BaseException as error:  # a panic in Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        print(f"gigatoken cannot be used ({error}): tokenizers does the work", file=sys.stderr)
        return reference
    if difference is not None:
        print(f"gigatoken and tokenizers differ on {difference!r}: tokenizers does the work", file=sys.stderr)
        return reference
    return CheckedEncoder(candidate, reference)


def first_difference(one: Encoder, other: Encoder, texts: list[str]) -> str | None:
    """The first of `texts` on which two encoders differ, cut to 80 characters; None if they agree."""
    if not texts:
        return None
    ids, counts = one.encode(texts)
    others, other_counts = other.encode(texts)
    if np.array_equal(counts, other_counts) and np.array_equal(ids, others):
        return None
    ends, other_ends = np.cumsum(counts), np.cumsum(other_counts)
    for number, text in enumerate(texts):
        mine = ids[ends[number] - counts[number] : ends[number]]
        theirs = others[other_ends[number] - other_counts[number] : other_ends[number]]
        if not np.array_equal(mine, theirs):
            return text[:80]
    return None
