"""The size of a dense decoder: parameters by part, FLOPs a token, the compute-optimal number of tokens."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smolmake.errors import UserError

if TYPE_CHECKING:
    from smolmake.recipe.pretraining import ModelShape

CHINCHILLA_TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022, table 3: about 20 at every budget they fitted


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What fixes the size of a dense decoder with gated feed-forward and two RMS norms a layer, without biases.

    `qk_norm` adds norms over each query's and each key's head.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    tie_word_embeddings: bool
    qk_norm: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, bool) and value < 1:
                raise UserError("the model's shape is impossible", key=field.name, value=value, remedy="give 1 or more")
        if self.num_attention_heads % self.num_key_value_heads:
            raise UserError(
                f"{self.num_attention_heads} query heads do not divide by {self.num_key_value_heads} key/value heads",
                key="num_key_value_heads", value=self.num_key_value_heads,
                remedy="give a divisor of num_attention_heads",
            )  # fmt: skip

    @classmethod
    def of(cls, model: ModelShape, vocab_size: int) -> Shape:
        """Of a recipe's model."""
        own = {field.name for field in dataclasses.fields(cls)} - {"vocab_size"}
        return cls(vocab_size=vocab_size, **{name: getattr(model, name) for name in own})

    @property
    def query_width(self) -> int:
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_width(self) -> int:
        """Width of the keys; the values are as wide."""
        return self.num_key_value_heads * self.head_dim


@dataclass(frozen=True)
class Parameters:
    """Number of parameters by part. `output_head` is 0 where the head is tied to the embeddings."""

    embeddings: int
    output_head: int
    attention: int
    feed_forward: int
    norms: int

    @property
    def total(self) -> int:
        return self.embeddings + self.output_head + self.attention + self.feed_forward + self.norms

    @property
    def multiplied(self) -> int:
        """Those that a token is multiplied with: all but an untied input table, which is only looked up."""
        return self.total - (self.embeddings if self.output_head else 0)


def count_parameters(shape: Shape) -> Parameters:
    """Parameters by part; the norms are two a layer, with `qk_norm` two of a head's width, and the final one."""
    d, layers = shape.hidden_size, shape.num_hidden_layers
    table = shape.vocab_size * d
    return Parameters(
        embeddings=table,
        output_head=0 if shape.tie_word_embeddings else table,
        attention=layers * 2 * d * (shape.query_width + shape.key_value_width),
        feed_forward=layers * 3 * d * shape.intermediate_size,
        norms=(2 * layers + 1) * d + (2 * layers * shape.head_dim if shape.qk_norm else 0),
    )


def flops_per_token(shape: Shape, sequence_length: float) -> float:
    """Training FLOPs a token, forward and backward: 6 N + 12 L d T (Chowdhery et al. 2022, PaLM, appendix B).

    N counts every parameter that a token is multiplied with: the output head once, tied or not, and no untied input
    table. Recomputed activations do not count. L is the number of layers, d the width of all query heads, T the
    sequence length. The attention term takes every pair of positions as computed, which is the convention of published
    MFU.
    """
    if not (math.isfinite(sequence_length) and sequence_length > 0):
        raise UserError(
            "not a possible sequence length",
            key="sequence_length", value=sequence_length, remedy="give a number of tokens above 0",
        )  # fmt: skip
    attention = 12 * shape.num_hidden_layers * shape.query_width * sequence_length
    return 6 * count_parameters(shape).multiplied + attention


def chinchilla_tokens(parameters: float) -> float:
    """Tokens that make best use of the training compute: 20 per parameter (Hoffmann et al. 2022)."""
    return CHINCHILLA_TOKENS_PER_PARAMETER * parameters


def overtraining(parameters: float, tokens: float) -> float:
    """How many times as many tokens as is compute-optimal."""
    return tokens / chinchilla_tokens(parameters)
