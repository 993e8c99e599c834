"""The numbers that fix a model's architecture."""

from __future__ import annotations

from typing import Any

from smolmake.model.counts import Shape
from smolmake.recipe.pretraining import ModelShape

IGNORED_LABEL = -100  # of a position that is no target; torch's own default


class ModelConfig(ModelShape):
    """Shape of a dense decoder. Field names are those of transformers' SmolLM3Config.

    `family` says which class of transformers reads it: smollm3 (has NoPE layers), llama, or qwen3, which is llama with
    norms over each query's and each key's head (QK-norm). `rope_scaling` are the settings of YaRN or Llama 3.
    """

    vocab_size: int
    rope_theta: float
    max_position_embeddings: int
    rope_scaling: dict[str, Any] | None = None

    @classmethod
    def of(cls, shape: ModelShape, **more: Any) -> ModelConfig:
        """A recipe's shape with the numbers that its tokenizer and its stage decide."""
        return cls(**{name: getattr(shape, name) for name in ModelShape.model_fields}, **more)

    def uses_rope(self, layer: int) -> bool:
        """Whether layer number `layer` (from 0) rotates its queries and keys.

        Every `no_rope_layer_interval`-th layer has no position encoding (NoPE): layers 3, 7, ... for interval 4.
        Interval 0 means that all layers rotate. Note that transformers' `no_rope_layers` holds 1 where RoPE IS used.
        """
        return self.no_rope_layer_interval == 0 or (layer + 1) % self.no_rope_layer_interval != 0

    @property
    def shape(self) -> Shape:
        """What its size follows from."""
        return Shape.of(self, self.vocab_size)
