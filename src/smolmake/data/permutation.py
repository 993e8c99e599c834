"""A keyed permutation of 0 .. n - 1 that needs no table: a Feistel network with cycle walking."""

from __future__ import annotations

import hashlib

ROUNDS = 6


def permute(position: int, size: int, key: str) -> int:
    """Where the permutation named `key` of range(size) sends `position`.

    A balanced Feistel network permutes a power-of-four range at least as large (Luby and Rackoff 1988); a value that
    lands outside range(size) is sent on until it lands inside (Black and Rogaway 2002), fewer than 4 times on average.
    """
    if not 0 <= position < size:
        raise ValueError(f"position {position} is outside range({size})")
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    keys = _round_keys(key)
    while True:
        left, right = position >> half_bits, position & mask
        for round_key in keys:
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        position = (left << half_bits) | right
        if position < size:
            return position


def _round_keys(key: str) -> list[int]:
    stream = hashlib.sha256(key.encode()).digest() + hashlib.sha256(f"{key}/".encode()).digest()
    return [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(ROUNDS)]


def _mix(value: int) -> int:
    """The finaliser of SplitMix64 (Steele et al. 2014): 64 bits in, 64 well-mixed bits out."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)
