"""The numbers that fix a model's architecture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from smolmake.model.counts import Shape

Family = Literal["smollm3", "llama", "qwen3"]
IGNORED_LABEL = -100  # of a position that is no target; torch's own default


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

    @property
    def shape(self) -> Shape:
        """What its size follows from."""
        return Shape(**{field.name: getattr(self, field.name) for field in fields(Shape)})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
