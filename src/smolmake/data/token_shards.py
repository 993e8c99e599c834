"""Token shards: the documents of a source as one stream of token ids with the documents' borders.

The stream lies in one or more parts, each a folder with tokens.bin and offsets.npy. Parts are mapped into memory when
they are read, so that opening a source costs the same whatever its size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from smolmake.data.encoder import Encoder, make_encoder
from smolmake.data.texts import batches, size_in_bytes
from smolmake.data.tokenizer import end_of_text_id
from smolmake.execution.parts import part_folder

ENCODED_CHARACTERS, ENCODED_DOCUMENTS = 2**22, 2048  # that are encoded together
Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """`tokens` [N] holds the documents, each ended by end-of-text; `offsets` [D + 1] says where each one begins."""

    tokens: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shards:
    """The token stream of a source: parts of `sizes[i]` tokens and `counts[i]` documents, in `folders[i]`."""

    folders: list[Path]
    sizes: list[int]
    counts: list[int]
    end_of_text: int
    dtype: np.dtype[Any]
    opened: dict[int, Part] = field(default_factory=dict)
    starts: list[int] = field(init=False)
    first_documents: list[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", starts_of(self.sizes))
        object.__setattr__(self, "first_documents", starts_of(self.counts))

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.starts[-1]

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return self.first_documents[-1]

    def sequences(self, length: int) -> int:
        """How many sequences of `length` inputs (plus the next token as last label) cover the stream."""
        return max(0, -(-(self.size - 1) // length))

    def sequence(self, number: int, out: npt.NDArray[Any]) -> tuple[Tokens, Tokens]:
        """Write sequence `number` into `out` [length + 1]; gives its documents and their borders, as `read` does."""
        return self.read(number * (len(out) - 1), out)

    def sequences_of(self, document: int, length: int) -> Sequence[int]:
        """The sequences that hold a token of a document as input or label, in order."""
        begin, after = self.span(document)
        last = min((after - 1) // length, self.sequences(length) - 1)
        return range(max(0, begin - 1) // length, last + 1)

    def part(self, number: int) -> Part:
        """A part, mapped into memory."""
        part = self.opened.get(number)
        if part is None:
            folder = self.folders[number]
            shape = (self.sizes[number],)
            if self.sizes[number]:
                tokens = np.asarray(np.memmap(folder / "tokens.bin", dtype=self.dtype, mode="r", shape=shape))
            else:
                tokens = np.zeros(0, self.dtype)
            offsets = np.asarray(np.load(folder / "offsets.npy", mmap_mode="r"))
            part = self.opened[number] = Part(tokens, offsets)
        return part

    def read(self, first: int, out: npt.NDArray[Any]) -> tuple[Tokens, Tokens]:
        """Write the tokens from `first` on into `out` [n], as many as there are.

        Gives the documents that they are in, in order: their numbers [K], and their borders in `out` [K + 1], from 0 to
        n. After the last token, `out` is filled with end-of-text, each filler in a document of its own.
        """
        numbers, borders = [], []
        done, wanted = 0, len(out)
        while done < wanted and first + done < self.size:
            number = bisect_right(self.starts, first + done) - 1
            part, inside = self.part(number), first + done - self.starts[number]
            end = min(inside + wanted - done, self.sizes[number])
            out[done : done + end - inside] = part.tokens[inside:end]
            low = int(part.offsets.searchsorted(inside, "right")) - 1
            high = low + int(part.offsets[low : low + end - inside + 1].searchsorted(end))
            border = part.offsets[low : high + 1] - (inside - done)
            border[0], border[-1] = done, wanted
            before = self.first_documents[number]
            found = np.arange(before + low, before + high)
            if end - inside == wanted:  # in one part, as nearly always
                return found, border
            numbers.append(found)
            borders.append(border)
            done += end - inside
        if done < wanted:
            out[done:] = self.end_of_text
            borders.append(np.arange(done, wanted + 1))
            numbers.append(np.arange(wanted - done) + self.documents + 1)
        return np.concatenate(numbers), np.concatenate([*(border[:-1] for border in borders), [wanted]])

    def span(self, document: int) -> tuple[int, int]:
        """Where a document begins in the stream, and where the next one does."""
        number = bisect_right(self.first_documents, document) - 1
        inside = document - self.first_documents[number]
        begin, end = self.part(number).offsets[inside : inside + 2].tolist()
        return self.starts[number] + begin, self.starts[number] + end


def starts_of(sizes: list[int]) -> list[int]:
    """Where each of some parts begins, and where the last one ends."""
    return [0, *accumulate(sizes)]


def open_shards(folder: Path, facts: dict[str, Any]) -> Shards:
    """A source's shards; `facts` are those of its manifest. Without `parts` in it, the folder is the only part."""
    sizes = facts.get("parts", [[facts["tokens"], facts["documents"]]])
    folders = [part_folder(folder, number) for number in range(len(sizes))] if "parts" in facts else [folder]
    dtype = np.dtype(f"<u{facts['token_bits'] // 8}")
    return Shards(folders, [size for size, _ in sizes], [count for _, count in sizes], facts["end_of_text"], dtype)


def write_shards(
    folder: Path, texts: Iterable[str], tokenizer: Tokenizer, encoder: Encoder | None = None
) -> dict[str, int]:
    """Encode documents into tokens.bin (16 bits where the vocabulary allows, else 32) and offsets.npy of one part."""
    end_of_text = end_of_text_id(tokenizer)
    end = np.array([end_of_text], np.uint32)
    encoder = encoder or make_encoder(tokenizer)
    dtype = token_type(tokenizer.get_vocab_size())
    lengths: list[int] = []
    size = 0
    with (folder / "tokens.bin").open("wb") as file:
        for batch in batches(texts, str, ENCODED_DOCUMENTS, ENCODED_CHARACTERS):
            ids = encoder.encode(batch)
            np.concatenate([part for each in ids for part in (each, end)], dtype=dtype, casting="same_kind").tofile(
                file
            )
            lengths += [len(each) + 1 for each in ids]
            size += sum(map(size_in_bytes, batch))
    offsets = np.array(starts_of(lengths))
    np.save(folder / "offsets.npy", offsets)
    return {
        "tokens": int(offsets[-1]),
        "documents": len(offsets) - 1,
        "bytes": size,
        "token_bits": dtype.itemsize * 8,
        "end_of_text": end_of_text,
    }


def join_facts(parts: list[dict[str, int]]) -> dict[str, Any]:
    """The facts of a whole source from those of its parts."""
    totals = {key: sum(part[key] for part in parts) for key in ("tokens", "documents", "bytes")}
    shared = {key: parts[0][key] for key in ("token_bits", "end_of_text")}
    return {**totals, **shared, "parts": [[part["tokens"], part["documents"]] for part in parts]}


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The smallest of 16 and 32 bits that holds every id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
