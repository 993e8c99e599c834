"""The model's shape: the numbers that fix its architecture, and what follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of a dense decoder in the SmolLM3 family. Field names are those of transformers' SmolLM3Config."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    no_rope_layer_interval: int
    rms_norm_eps: float
    initializer_range: float
    tie_word_embeddings: bool
    rope_theta: float
    max_position_embeddings: int

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def uses_rope(self, layer: int) -> bool:
        """Whether layer number `layer` (from 0) rotates its queries and keys.

        Every `no_rope_layer_interval`-th layer has no position encoding (NoPE): layers 3, 7, ... for interval 4.
        Interval 0 means that all layers rotate. Note that transformers' `no_rope_layers` holds 1 where RoPE IS used.
        """
        return self.no_rope_layer_interval == 0 or (layer + 1) % self.no_rope_layer_interval != 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parameter_count(config: ModelConfig) -> int:
    """Number of parameters, tied embeddings counted once."""
    width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
    attention = 2 * width * width + 2 * width * kv_width
    feed_forward = 3 * width * config.intermediate_size
    per_layer = attention + feed_forward + 2 * width
    embeddings = config.vocab_size * width * (1 if config.tie_word_embeddings else 2)
    return embeddings + config.num_hidden_layers * per_layer + width


def flops_per_token(config: ModelConfig, sequence_length: int) -> float:
    """Training FLOPs a token, forward and backward: 6N + 12 L d T (PaLM, appendix B; attention counted as non-causal).

    N includes the output head once, so with untied embeddings the input table, which is only looked up, is left out.
    """
    parameters = parameter_count(config)
    if not config.tie_word_embeddings:
        parameters -= config.vocab_size * config.hidden_size
    return 6 * parameters + 12 * config.num_hidden_layers * config.hidden_size * sequence_length
