"""Small models and tokenizers of the tests."""

import json
from pathlib import Path
from typing import Any

import torch

from smolmake.data.tokenizer import tokenizer_config, train_bpe
from smolmake.model.config import ModelConfig
from smolmake.model.conversion import save_tensors
from smolmake.model.decoder import Decoder
from smolmake.model.init import initialise

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "no_rope_layer_interval": 4,
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.1,
    "tie_word_embeddings": True,
    "rope_theta": 10_000.0,
    "max_position_embeddings": 64,
}


def config(**changes: Any) -> ModelConfig:
    return ModelConfig(**{**SHAPE, **changes})


def decoder(seed: int = 0, **changes: Any) -> Decoder:
    """A model with initial values; norms are off 1, so that a lost norm shows."""
    model = Decoder(config(**changes))
    initialise(model, seed)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def save_model(model: Decoder, folder: Path, tokenizer: Path, end_of_text: int) -> None:
    save_tensors(model.config, model.state_dict(), folder, tokenizer, end_of_text)


def write_tokenizer(folder: Path, texts: list[str], size: int = 300) -> int:
    """A tokenizer as the pipeline writes it; returns its vocabulary's size."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_bpe(texts, size)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(10**9)))
    return int(tokenizer.get_vocab_size())
