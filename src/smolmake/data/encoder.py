"""Token ids of documents, the same as the reference `tokenizers` gives, from the fastest encoder that gives them.

The reference is the version that transformers pins. The fast encoder is its release candidate 1.0, 16 to 19 times
faster (benchmarks/data.py), which set-up puts beside it as `tokenizers_next.tokenizers`. It is young, so it is compared
with the reference on odd texts and on some of the source before the first document, and on a few of the documents as
the work goes on. Where one id differs, or where it cannot read the tokenizer at all, the reference does the work, and
its `slow_because` says why.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import Tokenizer

Ids = npt.NDArray[np.uint32]
CHECK_EVERY = 4000  # documents between two that are compared
CHECK_CHARACTERS = 20_000  # how much of such a document
REFERENCE_BATCH = 2**22  # characters: the reference keeps about 200 bytes a token until a batch is done
REFERENCE = f"tokenizers {tokenizers.__version__}"
NOT_INSTALLED = "the fast encoder is not installed: make setup"
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
    """Encodes a batch of texts. `name` is the library with its version."""

    name: str
    slow_because: str

    def encode(self, texts: list[str]) -> list[Ids]:
        """The ids of each text.

        Raises:
            UnicodeEncodeError: if a text holds half of a surrogate pair, which has no bytes.
        """


class ReferenceEncoder:
    """The `tokenizers` library that is pinned. `slow_because` says why it does the work, where it was not asked for."""

    name = REFERENCE

    def __init__(self, tokenizer: Tokenizer, slow_because: str = "", batch: int = REFERENCE_BATCH) -> None:
        self.tokenizer, self.slow_because, self.batch = tokenizer, slow_because, batch

    def encode(self, texts: list[str]) -> list[Ids]:
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
        return ids


class FastEncoder:
    """The release candidate of `tokenizers` 1.0. Without `special`, the text of a special token stays text."""

    slow_because = ""

    def __init__(self, description: str, special: bool) -> None:
        from tokenizers_next import tokenizers as library  # here: a machine that cannot load it has the reference

        self.name = f"tokenizers {library.__version__}"
        self.special = special
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            file.write(description)
            file.flush()
            self.library: Any = library.Tokenizer.from_file(file.name)

    def encode(self, texts: list[str]) -> list[Ids]:
        encodings = self.library.encode_batch(texts, add_special_tokens=False, encode_special_tokens=not self.special)
        return [encoding.ids_array for encoding in encodings]


class Mismatch(Exception):
    """The fast encoder gave other ids than the reference; what it encoded so far is not to be trusted."""


class CheckedEncoder:
    """The fast encoder, compared with the reference on some of the documents."""

    slow_because = ""

    def __init__(self, fast: Encoder, reference: Encoder, every: int = CHECK_EVERY) -> None:
        self.fast, self.reference, self.every = fast, reference, every
        self.name = fast.name
        self.seen = 0

    def encode(self, texts: list[str]) -> list[Ids]:
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
            raise Mismatch(f"{self.name} stopped: {error}") from None
        if difference is not None:
            raise Mismatch(f"{self.name} gives other ids on {difference!r}")
        return encoded


def make_encoder(
    tokenizer: Tokenizer,
    special: bool = False,
    slow_because: str = "",
    sample: Sequence[str] = (),
    load: Callable[[str, bool], Encoder] = FastEncoder,
) -> Encoder:
    """The fastest encoder that agrees with the reference on odd texts and on a `sample` of what it is to encode.

    With `special`, the text of a special token becomes that token; without, it stays text. With `slow_because`, the
    reference, for that reason; `load` makes the fast one from the tokenizer's JSON.
    """
    description = json.loads(tokenizer.to_str()) | {"truncation": None, "padding": None}
    plain = Tokenizer.from_str(json.dumps(description))
    plain.encode_special_tokens = not special
    if slow_because:
        return ReferenceEncoder(plain, slow_because)
    reference = ReferenceEncoder(plain)
    added = [token["content"] for token in description["added_tokens"]]
    odd = [*ODD_TEXTS, *added, *(f"a {token}b{token}{token}\n" for token in added)]
    try:
        fast = load(json.dumps(description), special)
        difference = first_difference(fast, reference, [*odd, *sample])
    except ModuleNotFoundError:
        return ReferenceEncoder(plain, NOT_INSTALLED)
    except BaseException as error:  # a panic in Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        for text in sample:
            text.encode()
        return ReferenceEncoder(plain, f"the fast encoder cannot use this tokenizer: {error}")
    if difference is not None:
        return ReferenceEncoder(plain, f"{fast.name} gives other ids on {difference!r}")
    return CheckedEncoder(fast, reference)


def first_difference(one: Encoder, other: Encoder, texts: list[str]) -> str | None:
    """The first of `texts` on which two encoders differ, cut to 80 characters; None if they agree."""
    if not texts:
        return None
    pairs = zip(one.encode(texts), other.encode(texts), texts, strict=True)
    return next((text[:80] for ids, others, text in pairs if not np.array_equal(ids, others)), None)
