"""Writing token shards. Apart from reading them, so that a change here is no change of the training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from smolmake.data.encoder import Encoder, make_encoder
from smolmake.data.tokenizer import end_of_text_id

BATCH_CHARACTERS, BATCH_DOCUMENTS = 2**22, 2048


def write_shards(
    folder: Path, texts: Iterable[str], tokenizer: Tokenizer, encoder: Encoder | None = None
) -> dict[str, int]:
    """Encode documents into tokens.bin (16 bits where the vocabulary allows, else 32) and offsets.npy of one part."""
    end_of_text = end_of_text_id(tokenizer)
    encoder = encoder or make_encoder(tokenizer)
    dtype = token_type(tokenizer.get_vocab_size())
    lengths: list[npt.NDArray[np.int64]] = []
    size = 0
    with (folder / "tokens.bin").open("wb") as file:
        for batch in _batches(texts):
            ids, counts = encoder.encode(batch)
            ended = np.empty(len(ids) + len(counts), dtype=dtype)
            ends = np.cumsum(counts + 1) - 1
            is_token = np.ones(len(ended), dtype=bool)
            is_token[ends] = False
            ended[is_token] = ids
            ended[ends] = end_of_text
            ended.tofile(file)
            lengths.append(counts + 1)
            size += sum(len(text) if text.isascii() else len(text.encode()) for text in batch)
    offsets = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
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


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in batches of some million characters, so that memory does not depend on their number."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
