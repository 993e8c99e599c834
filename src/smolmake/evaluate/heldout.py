"""Loss on held-out documents, by source, in nats a token and in bits a byte (comparable across tokenizers)."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smolmake.stats import bootstrap_ratio


def score_heldout(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int
) -> list[dict[str, Any]]:
    """The loss on each source's held-out documents."""
    about = json.loads((folder / "sources.json").read_text())
    table = pq.read_table(folder / "heldout.parquet")
    found = []
    for source in sorted(about):
        texts = table.filter(pc.equal(table["source"], source))["text"].to_pylist()
        loss = heldout_loss(model, tokenizer, texts, length)
        found.append({"source": source, **about[source], **loss})
    return found


@torch.inference_mode()
def heldout_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], max_tokens: int
) -> dict[str, Any]:
    """Mean loss over documents, each cut to `max_tokens` and run by itself; its first token is no target."""
    nats, counts, sizes = [], [], []
    for text in texts:
        ids, bytes_of = encode_with_bytes(tokenizer, text)
        ids = ids[:max_tokens]
        if not any(bytes_of[1:max_tokens]):
            continue
        tokens = torch.tensor([ids], device=model.device)
        logits = model(tokens).logits[0, :-1].float()
        nats.append(float(F.cross_entropy(logits, tokens[0, 1:], reduction="sum")))
        counts.append(float(len(ids) - 1))
        sizes.append(sum(bytes_of[1:max_tokens]) * math.log(2))
    low, high = bootstrap_ratio(nats, sizes)
    return {
        "documents": len(nats),
        "tokens": int(sum(counts)),
        "loss": sum(nats) / sum(counts),
        "bits_per_byte": sum(nats) / sum(sizes),
        "low": low,
        "high": high,
        "nats": [round(value, 4) for value in nats],
        "sizes": [round(value / math.log(2)) for value in sizes],
    }


def encode_with_bytes(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[int]]:
    """A text's tokens and, of each, how many of the text's UTF-8 bytes it stands for; their sum is the text's.

    Told from the spans of characters that tokens come from, since a token's own text does not tell: a cut character
    decodes to another one. Tokens that share a character have its bytes as their pieces say (of byte-level BPE a sign a
    byte, with byte fallback one for <0x..>), else equal shares.
    """
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    ids, spans = encoded["input_ids"], encoded["offset_mapping"]
    pieces, before = list(tokenizer.convert_ids_to_tokens(ids)), np.cumsum([0, *(len(sign.encode()) for sign in text)])
    sizes: list[int] = []
    first = 0
    for last, (_, end) in enumerate(spans):
        if last + 1 < len(spans) and spans[last + 1][0] < end:
            continue  # the next one shares a character with it
        total = int(before[end if last + 1 < len(spans) else -1]) - sum(sizes)
        starts = [text[start : start + 1] for start, _ in spans[first : last + 1]]
        sizes += _divide(total, pieces[first : last + 1], starts)
        first = last + 1
    return ids, sizes


def _divide(total: int, pieces: list[str], starts: list[str]) -> list[int]:
    """A number of bytes over the tokens that share them; `starts` holds the first sign of the text of each."""
    by_byte_level = [len(piece) for piece in pieces]
    by_fallback = [
        1 if re.fullmatch("<0x[0-9A-F]{2}>", piece) else len(piece.replace("▁", " " if start == " " else "").encode())
        for piece, start in zip(pieces, starts, strict=True)
    ]
    for sizes in (by_byte_level, by_fallback):
        if sum(sizes) == total:
            return sizes
    parts = [total * number // len(pieces) for number in range(len(pieces) + 1)]
    return [end - start for start, end in pairwise(parts)]
