"""The words of many texts at once, as 64-bit hashes in arrays: what n-grams, MinHash and decontamination work on.

A word is a run of letters, digits and underscores, as the regular expression \\w+ has it. In scripts that put no spaces
between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) every character is a word. Texts that look alike have the
same words: case does not count, nor how a character is encoded (Unicode's NFC, and NFKC where that is one character),
nor what cannot be seen, nor the signs between the thousands of a number.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from unicodedata import decomposition, normalize

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.unsignedinteger[Any]]
Hashes = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
SPACE, SIGN, WORD, ALONE, UNSEEN = 0, 1, 2, 3, 4  # classes of characters; ALONE is a word of its own
ASCII = 127  # the last code of it
HASHED_AT_ONCE = 2**18  # codes that are hashed at a time: a power of two
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SCRIPTS_WITHOUT_SPACES = [
    *[(0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF)],
    *[(0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF)],
]
GROUPING = ",'_\u2019\uff0c\u00a0\u2007\u2009\u202f"  # signs between the thousands of a number: 12,000
# Unicode's Default_Ignorable_Code_Point: soft hyphen, zero-width characters, marks of direction, variation selectors.
IGNORABLE = [
    *[(0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)],
    *[(0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)],
    *[(0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)],
]


@dataclass(frozen=True)
class Words:
    """Words of D texts: `hashes` [W], and `offsets` [D + 1] that say where each text's words begin."""

    hashes: Hashes
    offsets: Int64s

    def texts(self) -> Int64s:
        """For every word, the number of its text [W]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True)
class Units:
    """Words, and words together with signs: a run of one character that is neither word nor white space."""

    words: Words
    with_signs: Words


def words_of(texts: Sequence[str]) -> Words:
    """The words of `texts`."""
    return units_of(texts).words


def units_of(texts: Sequence[str]) -> Units:
    """The words of `texts`, and the same with the signs between them."""
    normal = [text.lower() if text.isascii() else normalize("NFC", text).casefold() for text in texts]
    joined = "\n".join([*normal, ""])
    try:
        codes: Codes = np.frombuffer(joined.encode("latin-1"), dtype=np.uint8)
    except UnicodeEncodeError:
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ends_of_texts = np.cumsum(np.fromiter((len(text) + 1 for text in normal), dtype=np.int64, count=len(normal)))
    codes, ends_of_texts = _as_seen(codes, ends_of_texts)
    kinds = _kinds()[codes]
    # A unit ends where the class changes, and between two signs or two words of one character that differ.
    changed = kinds[1:] != kinds[:-1]
    changed |= (kinds[1:] == ALONE) | ((kinds[1:] == SIGN) & (codes[1:] != codes[:-1]))
    borders = np.concatenate([[0], np.flatnonzero(changed) + 1, [len(codes)]])
    kind_of_unit = kinds[borders[:-1]]
    real = kind_of_unit != SPACE
    starts, ends, is_word = borders[:-1][real], borders[1:][real], kind_of_unit[real] != SIGN
    hashes = _hash_runs(codes, starts, ends)
    offsets = np.concatenate([[0], np.searchsorted(starts, ends_of_texts)]).astype(np.int64)
    words_before = np.concatenate([[0], np.cumsum(is_word)])
    return Units(Words(hashes[is_word], words_before[offsets]), Words(hashes, offsets))


def _as_seen(codes: Codes, ends: Int64s) -> tuple[Codes, Int64s]:
    """Codes with one code for characters that look alike, without what cannot be seen; and where texts end then."""
    plain = codes.dtype == np.uint8 and not (codes > ASCII).any()
    if not plain:
        codes, ends = _without(codes, ends, np.flatnonzero(_kinds()[codes] == UNSEEN))
    signs = np.flatnonzero(_grouping()[codes])
    if not plain:
        codes = _folded()[codes]
    around = np.pad(codes, (1, 4))[signs[:, np.newaxis] + [0, 2, 3, 4, 5]]
    digits = (around >= ord("0")) & (around <= ord("9"))
    return _without(codes, ends, signs[digits[:, :4].all(axis=1) & ~digits[:, 4]])


def _without(codes: Codes, ends: Int64s, places: Int64s) -> tuple[Codes, Int64s]:
    return (np.delete(codes, places), ends - np.searchsorted(places, ends)) if len(places) else (codes, ends)


def ngrams(words: Words, n: int) -> tuple[Hashes, Int64s]:
    """Hashes of all runs of n words that lie in one text [G], and the number of that text [G]."""
    count = len(words.hashes) - n + 1
    if count <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    texts = words.texts()
    hashes = np.zeros(count, np.uint64)
    for i in range(n):
        hashes = (hashes ^ words.hashes[i : i + count]) * MULTIPLIER
        hashes ^= hashes >> np.uint64(29)
    inside = texts[:count] == texts[n - 1 :]
    return hashes[inside], texts[:count][inside]


def repeated_spans(words: Words, longest: int, times: int) -> npt.NDArray[np.bool_]:
    """Which texts [D] hold a span of 1 to `longest` words that is repeated `times` times or more in a row."""
    found = np.zeros(len(words.offsets) - 1, dtype=bool)
    texts = words.texts()
    for n in range(1, longest + 1):
        if len(words.hashes) <= n * (times - 1):
            break
        if not _may_repeat(words.hashes, n, n * (times - 1)):
            continue
        same = (words.hashes[n:] == words.hashes[:-n]) & (texts[n:] == texts[:-n])
        edges = np.flatnonzero(np.diff(np.concatenate([[0], same.view(np.int8), [0]])))
        starts, ends = edges[::2], edges[1::2]
        long = ends - starts >= n * (times - 1)
        found[texts[starts[long]]] = True
    return found


def _may_repeat(hashes: Hashes, n: int, length: int) -> bool:
    """Whether `length` hashes in a row may equal those n places on: told by four of them, so nearly all texts pass."""
    step = length // 4
    if step < 1:
        return True
    places = np.arange(0, len(hashes) - n, step)
    same = hashes[places] == hashes[places + n]
    return bool((same[3:] & same[2:-1] & same[1:-2] & same[:-3]).any())


def _hash_runs(codes: Codes, starts: Int64s, ends: Int64s) -> Hashes:
    """A hash of codes[start:end] for every run: a polynomial in an odd number modulo 2**64, from one running sum.

    The sum runs on from block to block, so that a text of any size takes little more memory than its codes.
    """
    hashes = np.zeros(len(starts), dtype=np.uint64)
    scales, inverse_scales = _scales(len(codes), False), _scales(len(codes), True)
    before = np.zeros(1, dtype=np.uint64)
    for number, first in enumerate(range(0, len(codes), HASHED_AT_ONCE)):
        some = codes[first : first + HASHED_AT_ONCE]
        values = np.multiply(some, _powers(False)[: len(some)], dtype=np.uint64)
        sums = np.cumsum(values)
        scale = scales[number : number + 1]
        low, high = np.searchsorted(starts, [first, first + len(some)]).tolist()
        inside = starts[low:high] - first
        hashes[low:high] -= (sums[inside] - values[inside]) * scale + before
        low, high = np.searchsorted(ends, [first + 1, first + len(some) + 1]).tolist()
        hashes[low:high] += sums[ends[low:high] - (first + 1)] * scale + before
        before = sums[-1:] * scale + before
    hashes *= _powers(True)[starts & (HASHED_AT_ONCE - 1)]
    if len(codes) > HASHED_AT_ONCE:
        hashes *= inverse_scales[starts // HASHED_AT_ONCE]
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(32)
    return hashes


def _scales(length: int, inverse: bool) -> Hashes:
    """The power (or its inverse) at the first place of each block of `length` codes."""
    base = _base(inverse)
    blocks = range(0, length + 1, HASHED_AT_ONCE)
    return np.array([pow(base, first, 2**64) for first in blocks], dtype=np.uint64)


def _base(inverse: bool) -> int:
    return pow(int(MULTIPLIER), -1, 2**64) if inverse else int(MULTIPLIER)


@cache
def _powers(inverse: bool) -> Hashes:
    """The powers 0 .. HASHED_AT_ONCE - 1 of an odd number, or of its inverse modulo 2**64."""
    powers, base = np.ones(1, dtype=np.uint64), _base(inverse)
    while len(powers) < HASHED_AT_ONCE:
        powers = np.concatenate([powers, powers * np.uint64(pow(base, len(powers), 2**64))])
    return powers


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The class of every code point."""
    kinds = np.full(sys.maxunicode + 1, SIGN, dtype=np.uint8)
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if character.isalnum() or character == "_":
            kinds[code] = WORD
        elif character.isspace():
            kinds[code] = SPACE
    for low, high in SCRIPTS_WITHOUT_SPACES:
        part = kinds[low : high + 1]
        part[part == WORD] = ALONE
    for low, high in IGNORABLE:
        kinds[low : high + 1] = UNSEEN
    return kinds


@cache
def _folded() -> Codes:
    """For every code point, the one that stands for it: in lower case, of the usual width and shape."""
    folded = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    for code in range(sys.maxunicode + 1):
        if decomposition(chr(code)).startswith("<"):  # nearly all have none
            plain = normalize("NFKC", chr(code)).lower()
            folded[code] = ord(plain) if len(plain) == 1 else code
    return folded


@cache
def _grouping() -> npt.NDArray[np.bool_]:
    """Which code points may stand between the thousands of a number."""
    return np.isin(np.arange(sys.maxunicode + 1), [ord(sign) for sign in GROUPING])
