"""The model's shape: the numbers that fix its architecture, and what follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Family = Literal["smollm3", "llama", "qwen3"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of a dense decoder. Field names are those of transformers' SmolLM3Config.

    `family` says which class of transformers reads it: smollm3 (has NoPE layers), llama, or qwen3, which is llama with
    norms over each query's and key's head (QK-norm).
    """

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
    family: Family = "smollm3"
    rope_scaling: dict[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if self.family != "smollm3" and self.no_rope_layer_interval != 0:
            raise ValueError(f"{self.family} models have RoPE in every layer: no_rope_layer_interval must be 0")

    @property
    def qk_norm(self) -> bool:
        return self.family == "qwen3"

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
    per_layer = attention + feed_forward + 2 * width + (2 * config.head_dim if config.qk_norm else 0)
    embeddings = config.vocab_size * width * (1 if config.tie_word_embeddings else 2)
    return embeddings + config.num_hidden_layers * per_layer + width


def flops_per_token(config: ModelConfig, sequence_length: int) -> float:
    """Training FLOPs a token, forward and backward: 6N + 12 L d T (PaLM, appendix B; attention counted as non-causal).

    N includes the output head once, so with untied embeddings the input table, which is only looked up, is left out.
    """
    return 6 * multiplied_parameters(config) + 12 * config.num_hidden_layers * config.hidden_size * sequence_length


def masked_flops_per_token(config: ModelConfig, document_lengths: list[int]) -> float:
    """FLOPs a token that causal attention within documents needs: 6N + 6 L d sum(l^2) / sum(l)."""
    seen = sum(length**2 for length in document_lengths) / sum(document_lengths)
    return 6 * multiplied_parameters(config) + 6 * config.num_hidden_layers * config.hidden_size * seen


def multiplied_parameters(config: ModelConfig) -> int:
    """The parameters that each token is multiplied by: all but an untied input table."""
    table = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    return parameter_count(config) - table
