"""The logits of a model that was trained, saved beside its weights for whoever measures it: see `model/logits.py`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from smolmake.model.config import ModelConfig
from smolmake.model.decoder import Decoder
from smolmake.model.logits import KEPT, LOGITS, TEXT, TOKENS


@torch.inference_mode()
def save_logits(config: ModelConfig, weights: dict[str, Tensor], tokenizer: Path, folder: Path) -> None:
    """Write the logits [KEPT, V] of a decoder with these weights, whole and in fp32, with the tokens that it read."""
    with torch.device("meta"):
        model = Decoder(config)
    model.load_state_dict(weights, assign=True)
    ids = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).encode(TEXT, add_special_tokens=False).ids
    tokens = torch.tensor(ids[: min(TOKENS, config.max_position_embeddings)])
    with all_cores():
        logits = model(tokens[None])[0, -KEPT:].float().contiguous()
    save_file({"tokens": tokens, "logits": logits}, folder / LOGITS)


@contextmanager
def all_cores() -> Iterator[None]:
    """All cores for a moment in which the other processes wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
