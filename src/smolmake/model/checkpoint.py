"""A model on disk: the transformers SmolLM3 format (config.json, model.safetensors, tokenizer files)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from smolmake.model.config import ModelConfig
from smolmake.model.decoder import Decoder

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def save_model(model: Decoder, folder: Path, tokenizer: Path, end_of_text: int) -> None:
    """Write the model and a copy of its tokenizer's files into `folder`, loadable by `AutoModelForCausalLM`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = to_transformers(model.config, end_of_text)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    copy_tokenizer(tokenizer, folder)


def load_model(folder: Path, rope_theta: float | None = None, max_positions: int | None = None) -> Decoder:
    """Read a model written by `save_model` or by transformers; theta and length may be raised on the way."""
    shape = from_transformers(json.loads((folder / "config.json").read_text()))
    if rope_theta is not None:
        shape["rope_theta"] = rope_theta
    if max_positions is not None:
        shape["max_position_embeddings"] = max_positions
    model = Decoder(ModelConfig(**shape))
    tensors: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    if model.config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors)
    return model


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files that exist in `source`."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def to_transformers(config: ModelConfig, end_of_text: int) -> dict[str, Any]:
    """The config.json of `SmolLM3ForCausalLM`."""
    shape = config.as_dict()
    theta = shape.pop("rope_theta")
    return {
        **shape,
        "architectures": ["SmolLM3ForCausalLM"],
        "model_type": "smollm3",
        "dtype": "float32",
        "hidden_act": "silu",
        "no_rope_layers": [int(config.uses_rope(layer)) for layer in range(config.num_hidden_layers)],
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "bos_token_id": None,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text,
    }


def from_transformers(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of `ModelConfig` from a SmolLM3 config.json.

    Raises:
        ValueError: if the config asks for something this decoder does not do.
    """
    if config.get("model_type") != "smollm3" or config.get("attention_bias") or config.get("mlp_bias"):
        raise ValueError("config.json: only bias-free smollm3 models can be read")
    shape = {name: config[name] for name in ModelConfig.__dataclass_fields__ if name != "rope_theta"}
    shape["rope_theta"] = config["rope_parameters"]["rope_theta"]
    expected = [int(ModelConfig(**shape).uses_rope(layer)) for layer in range(config["num_hidden_layers"])]
    if config.get("no_rope_layers", expected) != expected:
        raise ValueError("config.json: no_rope_layers does not follow no_rope_layer_interval")
    return shape
