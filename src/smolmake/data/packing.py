"""Best-fit packing: whole documents side by side in sequences, so that few are cut (Ding et al. 2024).

A document longer than a sequence is cut into pieces, of which all but the last fill a sequence. The last ones and the
shorter documents are put, the longest first, where the least room is left that still holds them; what room is left in
the end is padding. The shards are left as they are: a packing says where the pieces of each sequence lie in them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from smolmake.data.token_shards import Shards, Tokens, starts_of
from smolmake.execution.parts import part_folder

# Documents that are packed together. More would need more memory and hardly less padding: with lengths around 900 and
# sequences of 4,096 this many leave less than one token in ten thousand empty.
WINDOW_DOCUMENTS = 2**18


def windows(shards: Shards) -> int:
    """In how many parts a source is packed."""
    return -(-shards.documents // WINDOW_DOCUMENTS)


def pack_window(shards: Shards, number: int, length: int, folder: Path) -> dict[str, int]:
    """Pack a window of documents and write spans.npy and sequences.npy, as `PackedShards` reads them."""
    first = number * WINDOW_DOCUMENTS
    borders = document_borders(shards, first, min(first + WINDOW_DOCUMENTS, shards.documents))
    starts, sizes = pieces(borders, length)
    sequence = best_fit(sizes, length)
    order = np.argsort(sequence, kind="stable")
    counts = np.bincount(sequence)
    np.save(folder / "spans.npy", np.stack([starts[order], sizes[order]], axis=1))
    np.save(folder / "sequences.npy", np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))
    longer = int((np.diff(borders) > length).sum())
    return {
        "sequences": len(counts),
        "documents": len(borders) - 1,
        "tokens": int(borders[-1] - borders[0]),
        "cut_documents": longer,
    }


def join_packings(parts: list[dict[str, int]], length: int) -> dict[str, Any]:
    """The facts of a whole source from those of its windows; `padding` is a share of all positions."""
    keys = ("sequences", "documents", "tokens", "cut_documents")
    totals = {key: sum(part[key] for part in parts) for key in keys}
    padding = 1 - totals["tokens"] / (totals["sequences"] * length) if totals["sequences"] else 0.0
    windows = [[part["sequences"], part["documents"]] for part in parts]
    return {"length": length, **totals, "padding": round(padding, 6), "parts": windows}


def document_borders(shards: Shards, first: int, end: int) -> Tokens:
    """Where documents `first` to `end - 1` begin in the source's stream, and where the last of them ends."""
    found = []
    for number in range(bisect_right(shards.first_documents, first) - 1, bisect_left(shards.first_documents, end)):
        before, inside = shards.first_documents[number], shards.part(number).offsets[:-1]
        found.append(shards.starts[number] + inside[max(first - before, 0) : end - before])
    return np.concatenate([*found, [shards.span(end - 1)[1]]])


def pieces(borders: Tokens, length: int) -> tuple[Tokens, Tokens]:
    """Documents with these borders, cut to pieces of at most `length` tokens: where each begins, and its size."""
    counts = -(-np.diff(borders) // length)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # within its document
    starts = np.repeat(borders[:-1], counts) + place * length
    return starts, np.minimum(length, np.repeat(borders[1:], counts) - starts)


def best_fit(sizes: Tokens, length: int) -> Tokens:
    """Best-fit decreasing: the sequence that each piece is put into, numbered from 0.

    Pieces of one size are placed together: where the least room holds the next piece, the room that is then left holds
    the one after it best of all, until it holds none. So the work grows with the number of sizes, not of pieces.
    """
    order = np.argsort(-sizes, kind="stable")
    ends = np.flatnonzero(np.diff(sizes[order], append=0)) + 1
    placed, made, first = np.empty(len(sizes), dtype=np.int64), 0, 0
    rooms: list[int] = []  # rooms that some sequences have left, in order
    having: dict[int, list[Tokens]] = {}  # those sequences

    def leave(room: int, sequences: Tokens) -> None:
        if room and len(sequences):
            if room not in having:
                insort(rooms, room)
            having.setdefault(room, []).append(sequences)

    for end in ends.tolist():
        size = int(sizes[order[first]])
        while first < end:
            at = bisect_left(rooms, size)
            room = rooms[at] if at < len(rooms) else length
            each = room // size
            wanted = -(-(end - first) // each)
            if at < len(rooms):
                sequences = having[room].pop()
                if not having[room]:
                    del having[room], rooms[at]
            else:
                sequences, made = np.arange(made, made + wanted), made + wanted
            taken = sequences[:wanted]
            count = min(end - first, len(taken) * each)
            placed[first : first + count] = np.repeat(taken, each)[:count]
            first += count
            in_last = count - (len(taken) - 1) * each
            leave(room, sequences[wanted:])
            leave(room - each * size, taken[:-1])
            leave(room - in_last * size, taken[-1:])
    found = np.empty_like(placed)
    found[order] = placed
    return found


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
