"""Loss on held-out documents, by source, in nats a token and in bits a byte (comparable across tokenizers)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

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
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"][:max_tokens]
        if len(ids) < 2:
            continue
        tokens = torch.tensor([ids], device=model.device)
        logits = model(tokens).logits[0, :-1].float()
        nats.append(float(F.cross_entropy(logits, tokens[0, 1:], reduction="sum")))
        counts.append(float(len(ids) - 1))
        sizes.append(float(len(str(tokenizer.decode(ids[1:])).encode())) * math.log(2))
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
