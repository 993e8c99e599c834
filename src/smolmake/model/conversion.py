"""A model on disk: the format of transformers (config.json, model.safetensors, tokenizer files)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from smolmake.model.config import ModelConfig
from smolmake.model.decoder import Decoder
from smolmake.recipe.pretraining import Precision

CLASSES = {"smollm3": "SmolLM3ForCausalLM", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def save_tensors(
    shape: ModelConfig, state: dict[str, torch.Tensor], folder: Path, tokenizer: Path, end_of_text: int
) -> None:
    """Write a model's state dict and a copy of its tokenizer's files, loadable by `AutoModelForCausalLM`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = to_transformers(shape, end_of_text)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    if shape.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    copy_tokenizer(tokenizer, folder)


def load_model(
    folder: Path,
    rope_theta: float | None = None,
    max_positions: int | None = None,
    precision: Precision = "fp32",
) -> Decoder:
    """Read a model written by `save_tensors` or by transformers; theta and length may be raised on the way."""
    shape = from_transformers(json.loads((folder / "config.json").read_text()))
    if rope_theta is not None:
        shape["rope_theta"] = rope_theta
    if max_positions is not None:
        shape["max_position_embeddings"] = max_positions
    model = Decoder(ModelConfig(**shape), precision)
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
    """The config.json of `SmolLM3ForCausalLM`, `LlamaForCausalLM` or `Qwen3ForCausalLM`."""
    shape = config.model_dump(exclude={"scale_output_projections"})
    theta, scaling, family = shape.pop("rope_theta"), shape.pop("rope_scaling"), shape.pop("family")
    if family == "smollm3":
        shape["no_rope_layers"] = [int(config.uses_rope(layer)) for layer in range(config.num_hidden_layers)]
    else:
        del shape["no_rope_layer_interval"]
        shape["head_dim"] = config.head_dim
    return {
        **shape,
        "architectures": [CLASSES[family]],
        "model_type": family,
        "dtype": "float32",
        "hidden_act": "silu",
        "rope_parameters": (scaling or {"rope_type": "default"}) | {"rope_theta": theta},
        "bos_token_id": None,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text,
    }


def from_transformers(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of `ModelConfig` from a config.json.

    Raises:
        ValueError: if the config asks for something this decoder does not do.
    """
    family = config.get("model_type")
    if family not in CLASSES or config.get("attention_bias") or config.get("mlp_bias"):
        raise ValueError(f"config.json: only bias-free models of {', '.join(CLASSES)} can be read")
    if config.get("use_sliding_window") or config.get("hidden_act", "silu") != "silu":
        raise ValueError("config.json: sliding windows and activations other than silu are not supported")
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {"rope_type": "default"})
    theta = rope.pop("rope_theta", None) or config["rope_theta"]
    kind = rope.get("rope_type", rope.pop("type", "default"))
    if kind not in ("default", "yarn", "llama3"):
        raise ValueError(f"config.json: rope_type {kind} is not supported")
    if (
        config.get("head_dim", config["hidden_size"] // config["num_attention_heads"]) * config["num_attention_heads"]
        != (config["hidden_size"])
    ):
        raise ValueError("config.json: head_dim times num_attention_heads must be hidden_size")
    own = {"rope_theta", "rope_scaling", "family", "no_rope_layer_interval", "scale_output_projections"}
    shape = {name: config[name] for name in ModelConfig.model_fields if name not in own}
    shape |= {"family": family, "rope_theta": theta, "no_rope_layer_interval": config.get("no_rope_layer_interval", 0)}
    shape["rope_scaling"] = None if kind == "default" else rope | {"rope_type": kind}
    expected = [int(ModelConfig(**shape).uses_rope(layer)) for layer in range(config["num_hidden_layers"])]
    if config.get("no_rope_layers", expected) != expected:
        raise ValueError("config.json: no_rope_layers does not follow no_rope_layer_interval")
    return shape
