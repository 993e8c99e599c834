"""Texts in batches that fit into memory, and their size in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

ItemT = TypeVar("ItemT")


def batches(items: Iterable[ItemT], text: Callable[[ItemT], str], most: int, characters: int) -> Iterator[list[ItemT]]:
    """Up to `most` items together, fewer where their texts have so many `characters`, in their order."""
    waiting = iter(items)
    for first in waiting:
        batch, size = [first], len(text(first))
        while size < characters and len(batch) < most and (more := next(waiting, None)) is not None:
            batch.append(more)
            size += len(text(more))
        yield batch


def size_in_bytes(text: str) -> int:
    """The bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())
