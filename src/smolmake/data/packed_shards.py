"""Reading shards whose documents were packed into sequences (data/packing.py) instead of cut from the stream."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from smolmake.data.token_shards import Shards, Tokens, starts_of
from smolmake.execution.parts import part_folder


class Window(NamedTuple):
    """Documents packed together: `spans` [P, 2] says where each piece begins in the stream and how many tokens it has,
    `begins` [S + 1] where in it each sequence begins.
    """

    begins: Tokens
    spans: Tokens


@dataclass(frozen=True, kw_only=True)
class PackedShards(Shards):
    """Shards packed for sequences of `length`: windows of `packed[i]` sequences and `held[i]` documents."""

    length: int
    windows: list[Path]
    packed: list[int]
    held: list[int]
    opened_windows: dict[int, Window] = field(default_factory=dict)
    window_sequences: list[int] = field(init=False)
    window_documents: list[int] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "window_sequences", starts_of(self.packed))
        object.__setattr__(self, "window_documents", starts_of(self.held))

    def sequences(self, length: int) -> int:
        """How many sequences there are."""
        assert length == self.length, f"packed for sequences of {self.length} tokens, not {length}"
        return self.window_sequences[-1]

    def sequence(self, number: int, out: npt.NDArray[Any]) -> tuple[Tokens, Tokens]:
        """Write sequence `number` into `out` [length + 1]; gives its documents and their borders, as `read` does.

        Padding is end-of-text, all of one document, with a border before each token: so none of it is a target.
        """
        at = bisect_right(self.window_sequences, number) - 1
        begins, spans = self.window(at)
        inside = number - self.window_sequences[at]
        numbers: list[int] = []
        borders: list[int] = []
        filled = 0
        for first, size in spans[begins[inside] : begins[inside + 1]].tolist():
            # Where a longer document was cut, its next token is the target of the last one here.
            found, ends = self.read(first, out[filled : filled + size + (size == self.length)])
            numbers.append(int(found[0]))
            borders.append(filled)
            filled += int(ends[1])
        out[filled:] = self.end_of_text
        numbers += [self.documents + 1] * (len(out) - filled)
        return np.array(numbers), np.array([*borders, *range(filled, len(out) + 1)])

    def sequences_of(self, document: int, length: int) -> list[int]:
        """The sequences that hold a part of a document."""
        begin, after = self.span(document)
        at = bisect_right(self.window_documents, document) - 1
        begins, spans = self.window(at)
        found = np.flatnonzero((begin <= spans[:, 0]) & (spans[:, 0] < after))
        return sorted((self.window_sequences[at] + begins.searchsorted(found, "right") - 1).tolist())

    def window(self, number: int) -> Window:
        """A window, mapped into memory."""
        window = self.opened_windows.get(number)
        if window is None:
            names = ("sequences.npy", "spans.npy")
            arrays = (np.asarray(np.load(self.windows[number] / name, mmap_mode="r")) for name in names)
            window = self.opened_windows[number] = Window(*arrays)
        return window


def pack_onto(shards: Shards, packing: Path, facts: dict[str, Any]) -> PackedShards:
    """Shards with the packing that lies in a folder; `facts` are those of its manifest."""
    parts = facts["parts"]
    return PackedShards(
        shards.folders, shards.sizes, shards.counts, shards.end_of_text, shards.dtype, shards.opened,
        length=facts["length"],
        windows=[part_folder(packing, number) for number in range(len(parts))],
        packed=[sequences for sequences, _ in parts],
        held=[documents for _, documents in parts],
    )  # fmt: skip
