"""Token shards: the documents of a source as one stream of token ids with the documents' borders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from smolmake.data.tokenizer import END_OF_TEXT

BATCH = 256
Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shards:
    """The token stream of a source.

    `tokens` [N] holds all documents, each ended by end-of-text; `offsets` [D + 1] says where each document begins.
    """

    tokens: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    end_of_text: int

    def sequences(self, length: int) -> int:
        """How many sequences of `length` inputs (plus the next token as last label) cover the stream."""
        return max(0, -(-(len(self.tokens) - 1) // length))

    def cut(self, number: int, length: int) -> tuple[Tokens, Tokens]:
        """Sequence `number`: tokens [length + 1] and the number of the document that each token is in.

        The last sequence is filled up with end-of-text, each filler in a document of its own.
        """
        first = number * length
        tokens = np.asarray(self.tokens[first : first + length + 1], dtype=np.int64)
        positions = np.arange(first, first + len(tokens))
        documents = np.searchsorted(self.offsets, positions, side="right") - 1
        missing = length + 1 - len(tokens)
        if missing:
            tokens = np.concatenate([tokens, np.full(missing, self.end_of_text, dtype=np.int64)])
            filler = len(self.offsets) + np.arange(missing)
            documents = np.concatenate([documents, filler])
        return tokens, documents.astype(np.int64)


def write_shards(folder: Path, texts: Iterable[str], tokenizer: Tokenizer) -> dict[str, int]:
    """Encode documents into tokens.bin (16 bits where the vocabulary allows, else 32) and offsets.npy."""
    end_of_text: int = tokenizer.get_vocab()[END_OF_TEXT]
    tokenizer.encode_special_tokens = True  # the text of a special token in the data is plain text
    dtype = token_type(tokenizer.get_vocab_size())
    offsets = [0]
    size = 0
    with (folder / "tokens.bin").open("wb") as file:
        for batch in _batches(texts):
            for encoding, text in zip(tokenizer.encode_batch(batch, add_special_tokens=False), batch, strict=True):
                ids = np.array([*encoding.ids, end_of_text], dtype=dtype)
                ids.tofile(file)
                offsets.append(offsets[-1] + len(ids))
                size += len(text.encode("utf-8", "replace"))
    np.save(folder / "offsets.npy", np.array(offsets, dtype=np.int64))
    return {
        "tokens": offsets[-1],
        "documents": len(offsets) - 1,
        "bytes": size,
        "token_bits": dtype.itemsize * 8,
        "end_of_text": end_of_text,
    }


def open_shards(folder: Path, facts: dict[str, Any]) -> Shards:
    """Map a source's shards into memory; `facts` are those of its manifest."""
    dtype = np.dtype(f"<u{facts['token_bits'] // 8}")
    tokens = np.memmap(folder / "tokens.bin", dtype=dtype, mode="r") if facts["tokens"] else np.zeros(0, dtype)
    return Shards(tokens, np.load(folder / "offsets.npy"), facts["end_of_text"])


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The smallest of 16 and 32 bits that holds every id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
