"""Small models of several families, and requests as the lm-evaluation-harness makes them."""

import random
from typing import Any

import torch
from lm_eval.api.instance import Instance
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    SmolLM3Config,
)

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]
WORDS = "cat dog owl shell button pear table river stone the of by is has one two thirteen".split()
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
         "num_hidden_layers": 4, "initializer_range": 0.3, "max_position_embeddings": 128}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig,
    "qwen3": Qwen3Config,
    "smollm3": SmolLM3Config,
    "olmo2": Olmo2Config,
    "mistral": MistralConfig,
}


def model_of(family: str, size: int, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(1)
    shape = SHAPE | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "vocab_size": size} | settings
    return AutoModelForCausalLM.from_config(FAMILIES[family](**shape)).eval()


def words(seed: Any, count: int) -> str:
    return " ".join(random.Random(str(seed)).choices(WORDS, k=count))


def instances(kind: str, task: str, items: list[list[tuple[Any, ...]]]) -> list[Instance]:
    return [
        Instance(kind, {}, args, index, (task, number, 1))
        for number, item in enumerate(items)
        for index, args in enumerate(item)
    ]
