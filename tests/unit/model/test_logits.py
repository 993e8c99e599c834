"""A checkpoint that transformers reads otherwise than the trainer wrote it is found by its logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import decoder, save_model, write_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from smolmake.errors import UserError
from smolmake.model.logits import BOUNDS, LOGITS, TEXT, check_logits
from smolmake.train.trained_logits import save_logits

FAMILIES: dict[str, dict[str, Any]] = {
    "smollm3": {},
    "untied": {"tie_word_embeddings": False},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}},
    "llama": {"family": "llama", "no_rope_layer_interval": 0},
    "qwen3": {"family": "qwen3", "no_rope_layer_interval": 0},
}
LOST: dict[str, Any] = {
    "theta": ("rope_parameters", {"rope_type": "default", "rope_theta": 20_000.0}),
    "layers without positions": ("no_rope_layers", [1, 1, 1, 1]),
    "an epsilon": ("rms_norm_eps", 1e-3),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, [TEXT] * 3, 400)
    return folder


def saved(folder: Path, tokenizer: Path, **shape: Any) -> Path:
    size = len(AutoTokenizer.from_pretrained(tokenizer))
    model = decoder(vocab_size=size, num_key_value_heads=2, **shape)
    save_model(model, folder, tokenizer, 0)
    save_logits(model.config, model.state_dict(), tokenizer, folder)
    return folder


def check(folder: Path, dtype: torch.dtype = torch.float32) -> float | None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return check_logits(model, AutoTokenizer.from_pretrained(folder), folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_saved_is_what_transformers_computes(tmp_path: Path, tokenizer: Path, family: str) -> None:
    folder = saved(tmp_path / "checkpoint", tokenizer, **FAMILIES[family])
    exact, rounded = check(folder), check(folder, torch.bfloat16)
    assert exact is not None and rounded is not None
    assert exact < BOUNDS[torch.float32] / 100 and 1e-4 < rounded < BOUNDS[torch.bfloat16]
    kept = load_file(folder / LOGITS)
    assert kept["logits"].shape == (16, len(AutoTokenizer.from_pretrained(folder))) and len(kept["tokens"]) == 64


@pytest.mark.parametrize("what", LOST)
def test_what_a_conversion_loses_is_found(tmp_path: Path, tokenizer: Path, what: str) -> None:
    folder = saved(tmp_path / "checkpoint", tokenizer)
    key, value = LOST[what]
    config = json.loads((folder / "config.json").read_text())
    assert config[key] != value
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(UserError, match="other logits"):
        check(folder)


def test_a_changed_weight_and_another_tokenizer_are_found(tmp_path: Path, tokenizer: Path) -> None:
    folder = saved(tmp_path / "checkpoint", tokenizer)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.2.self_attn.k_proj.weight"][0] *= 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="other logits"):
        check(folder)
    write_tokenizer(folder, [TEXT], 300)
    with pytest.raises(UserError, match="other tokens"):
        check(folder)
    (folder / LOGITS).unlink()
    assert check(folder) is None
