"""The SmolLM3 decoder in plain PyTorch: grouped-query attention, RoPE with NoPE layers, RMSNorm, SwiGLU.

Parameter names are those of transformers' `SmolLM3ForCausalLM`, so a state dict needs no conversion.
Shapes: B sequences, T tokens, D hidden size, H query heads, K key/value heads, E head dimension, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smolmake.model.config import ModelConfig

IGNORED_LABEL = -100


class Attention(nn.Module):
    """Causal grouped-query attention, within documents only where `mask` says so."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.head_dim = config.head_dim
        self.grouped = config.num_key_value_heads != config.num_attention_heads
        self.uses_rope = config.uses_rope(layer)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x_BTD: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        B, T, D = x_BTD.shape
        q_BHTE, k_BKTE, v_BKTE = (
            projection(x_BTD).view(B, T, -1, self.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.uses_rope:
            q_BHTE, k_BKTE = rotate(q_BHTE, rotation), rotate(k_BKTE, rotation)
        out_BHTE = F.scaled_dot_product_attention(
            q_BHTE, k_BKTE, v_BKTE, attn_mask=mask, is_causal=mask is None, enable_gqa=self.grouped
        )
        out: Tensor = self.o_proj(out_BHTE.transpose(1, 2).reshape(B, T, D))
        return out


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return out


class Block(nn.Module):
    """One layer: attention and feed-forward, each after a norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x_BTD: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotation, mask)
        x_BTD = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return x_BTD


class Trunk(nn.Module):
    """Embedding, layers and final norm: `model.` in the transformers state dict."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class Decoder(nn.Module):
    """A causal language model; `forward` gives logits, `loss` the mean cross-entropy over unmasked labels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens_BT: Tensor, document_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V]. With `document_BT` (a number per token) attention stays within equal numbers."""
        rotation = rope_table(self.config, tokens_BT.shape[1], tokens_BT.device)
        mask = None if document_BT is None else document_mask(document_BT)
        x_BTD = self.model.embed_tokens(tokens_BT)
        for block in self.model.layers:
            x_BTD = block(x_BTD, rotation, mask)
        logits_BTV: Tensor = self.lm_head(self.model.norm(x_BTD))
        return logits_BTV

    def loss(self, tokens_BT: Tensor, labels_BT: Tensor, document_BT: Tensor | None = None) -> Tensor:
        """Sum of the cross-entropy over labels other than -100, in fp32; the caller divides by their number."""
        logits_BTV = self(tokens_BT, document_BT).float()
        return F.cross_entropy(
            logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORED_LABEL, reduction="sum"
        )


def rope_table(config: ModelConfig, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, E] of rotary position embeddings (Su et al. 2021, half-split layout as in Llama)."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.int64, device=device).float() / config.head_dim
    frequency = 1.0 / config.rope_theta**exponent
    angle_TE = torch.outer(torch.arange(length, device=device).float(), frequency).repeat(1, 2)
    return angle_TE.cos(), angle_TE.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (i, i + E/2) of the last dimension of x [B, heads, T, E]."""
    cos_TE, sin_TE = rotation
    first, second = x.chunk(2, dim=-1)
    return (x * cos_TE + torch.cat((-second, first), dim=-1) * sin_TE).to(x.dtype)


def document_mask(document_BT: Tensor) -> Tensor:
    """Boolean mask [B, 1, T, T], True where a query may see a key: not later, and in the same document."""
    same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
    return same_BTT.tril()[:, None]
