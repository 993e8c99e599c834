"""Exact and near duplicates over all documents of a source, and against other sources.

Near duplicates are told by MinHash (Broder 1997) with locality-sensitive hashing over word n-grams. The signatures come
from rensa; bands, candidates and the choice of what stays are arrays, so that memory is that of the signatures:
16 bytes a document, and 4 for each permutation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from smolmake.data.ngrams import MULTIPLIER, Int64s, Words, ngrams

BAND_ROWS = 4
CROWD = 32  # in a larger bucket a document is compared with the first ones and with its neighbours
Signatures = npt.NDArray[np.uint32]
Fingerprints = npt.NDArray[np.uint64]


def fingerprints_of(fingerprints: Sequence[bytes]) -> Fingerprints:
    """Fingerprints of 128 bits as an array [D, 2]."""
    return np.frombuffer(b"".join(fingerprints), dtype="<u8").reshape(-1, 2)


def signatures_of(words: Words, ngram: int, permutations: int) -> Signatures:
    """MinHash signatures [D, permutations] over the texts' word n-grams; a shorter text counts as one n-gram."""
    texts = len(words.offsets) - 1
    hashes, owners = ngrams(words, ngram)
    counts = np.bincount(owners, minlength=texts)
    short = np.flatnonzero(counts == 0)
    if len(short):
        whole = [np.bitwise_xor.reduce(words.hashes[words.offsets[i] : words.offsets[i + 1]]) for i in short]
        hashes = np.insert(hashes, np.searchsorted(owners, short), np.array(whole, dtype=np.uint64))
        counts[short] = 1
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, permutations, 0)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(texts, permutations)


def exact_duplicates(fingerprints: Fingerprints, others: Fingerprints) -> npt.NDArray[np.bool_]:
    """Which documents [D] have the text of an earlier one, or of one of `others`."""
    both = np.concatenate([others, fingerprints])
    order = np.lexsort((both[:, 1], both[:, 0]))  # stable: of equal ones, the earliest comes first
    again = (both[order[1:]] == both[order[:-1]]).all(axis=1)
    duplicate = np.zeros(len(both), dtype=bool)
    duplicate[order[1:][again]] = True
    return duplicate[len(others) :]


def near_duplicates(
    signatures: Signatures, others: Signatures, similarity: float, left_out: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which documents [D] have a Jaccard similarity so high to an earlier one that stays, or to one of `others`.

    Documents that are `left_out` [D] do not count.
    """
    both = np.concatenate([others, signatures])
    numbers = np.concatenate([np.arange(len(others)), len(others) + np.flatnonzero(~left_out)])
    pairs = _similar_pairs(both, numbers, similarity)
    duplicate = np.zeros(len(both), dtype=bool)
    for earlier, later in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].tolist():
        if later >= len(others) and not duplicate[earlier]:
            duplicate[later] = True
    return duplicate[len(others) :]


def _similar_pairs(signatures: Signatures, numbers: Int64s, similarity: float) -> Int64s:
    """Pairs (earlier, later) of documents [P, 2] that share a band and whose signatures agree as often as asked."""
    found = [np.zeros((0, 2), dtype=np.int64)]
    for first in range(0, signatures.shape[1], BAND_ROWS):
        keys = np.zeros(len(numbers), dtype=np.uint64)
        for row in range(first, min(first + BAND_ROWS, signatures.shape[1])):
            keys = (keys ^ signatures[numbers, row]) * MULTIPLIER
            keys ^= keys >> np.uint64(32)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(order) else order
        sizes = np.diff(np.append(starts, len(order)))
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            bucket = numbers[order[start : start + size]]
            found.append(_pairs_in(np.sort(bucket)))
    pairs = np.unique(np.concatenate(found), axis=0)
    agreement = np.concatenate(
        [np.zeros(0), *((signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1) for part in _slices(pairs))]
    )
    return np.asarray(pairs[agreement >= similarity])


def _pairs_in(bucket: Int64s) -> Int64s:
    if len(bucket) <= CROWD:
        low, high = np.triu_indices(len(bucket), 1)
        return np.stack([bucket[low], bucket[high]], axis=1)
    later = np.arange(1, len(bucket))
    columns = [np.stack([bucket[np.maximum(later - k, 0)], bucket[later]], axis=1) for k in (1, 2, 3)]
    columns += [np.stack([np.full(len(bucket) - k - 1, bucket[k]), bucket[k + 1 :]], axis=1) for k in range(3)]
    return np.concatenate(columns)


def _slices(pairs: Int64s) -> list[Int64s]:
    return [pairs[i : i + 65536] for i in range(0, len(pairs), 65536)]
