"""A keyed permutation of 0 .. n - 1 that needs no table: a Feistel network with cycle walking."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

ROUNDS = 6
Values = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


def permute(position: int, size: int, key: str, inverse: bool = False) -> int:
    """Where the permutation named `key` of range(size) sends `position`; its `inverse`: what it sends there."""
    return int(permute_each(np.array([position]), np.array([size]), round_keys(key)[np.newaxis], inverse)[0])


def permute_each(positions: Places, sizes: Places, keys: Values, inverse: bool = False) -> Places:
    """Where permutations of range(sizes[i]) with round keys [N, ROUNDS] send `positions` [N].

    A balanced Feistel network permutes a power-of-four range at least as large (Luby and Rackoff 1988); a value that
    lands outside range(size) is sent on until it lands inside (Black and Rogaway 2002), fewer than 4 times on average.
    """
    if positions.size and ((positions < 0) | (positions >= sizes)).any():
        wrong = int(np.flatnonzero((positions < 0) | (positions >= sizes))[0])
        raise ValueError(f"position {positions[wrong]} is outside range({sizes[wrong]})")
    half_bits = half_widths(sizes)
    limits: Values = sizes.astype(np.uint64)
    result = _network(positions.astype(np.uint64), half_bits, keys, inverse)
    outside = np.flatnonzero(result >= limits)
    while outside.size:
        result[outside] = _network(result[outside], half_bits[outside], keys[outside], inverse)
        outside = outside[result[outside] >= limits[outside]]
    return result.astype(np.int64)


def half_widths(sizes: Places) -> Values:
    """Bits in each half of the network's values: half of those that size - 1 has, rounded up, at least 1."""
    bits = np.frexp((np.maximum(sizes, 2) - 1).astype(np.float64))[1]  # exact below 2**53 sequences
    return np.asarray((bits + 1) // 2, dtype=np.uint64)


def _network(values: Values, half_bits: Values, keys: Values, inverse: bool) -> Values:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left: Values = values >> half_bits
    right: Values = values & mask
    for key in keys.T[::-1] if inverse else keys.T:
        if inverse:
            left, right = right ^ (_mix(left ^ key) & mask), left
        else:
            left, right = right, left ^ (_mix(right ^ key) & mask)
    return np.asarray((left << half_bits) | right)


@lru_cache(maxsize=4096)
def round_keys(key: str) -> Values:
    """The keys [ROUNDS] of the permutation named `key`."""
    stream = hashlib.sha256(key.encode()).digest() + hashlib.sha256(f"{key}/".encode()).digest()
    return np.frombuffer(stream, dtype="<u8")[:ROUNDS].astype(np.uint64)


def _mix(value: Values) -> Values:
    """The finaliser of SplitMix64 (Steele et al. 2014): 64 bits in, 64 well-mixed bits out, modulo 2**64."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
