"""The SmolLM3 and Llama decoders in plain PyTorch: grouped-query attention, RoPE with NoPE layers, RMSNorm, SwiGLU.

Parameter names are those of transformers' `SmolLM3ForCausalLM`, so a state dict needs no conversion.
Shapes: B sequences, T tokens, D hidden size, H query heads, K key/value heads, E head dimension, V vocabulary.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smolmake.model.attention import DocumentIds, Mask, attend, make_mask
from smolmake.model.config import ModelConfig
from smolmake.model.context_parallel import ContextParallelDocuments
from smolmake.model.head import head_loss
from smolmake.model.linear import compute_dtype, project, project_each, project_joined
from smolmake.model.rope import rope_table, rotate
from smolmake.recipe.pretraining import Precision

Rotation = tuple[Tensor, Tensor]


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm (Zhang and Sennrich 2019), computed in fp32 whatever the input's type."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), self.eps).to(x.dtype)


class Attention(nn.Module):
    """Causal grouped-query attention, within documents only where the mask says so."""

    def __init__(self, config: ModelConfig, layer: int, precision: Precision) -> None:
        super().__init__()
        width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.head_dim = config.head_dim
        self.uses_rope = config.uses_rope(layer)
        self.float8 = precision == "float8"
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm = RMSNorm(config.head_dim, eps=config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, eps=config.rms_norm_eps) if config.qk_norm else None

    def forward(self, x_BTD: Tensor, rotation: Rotation, mask: Mask) -> Tensor:
        weights = (self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        q_BTHE, k_BTKE, v_BTKE = (
            part.reshape(*part.shape[:-1], -1, self.head_dim) for part in project_joined(x_BTD, weights, self.float8)
        )
        if self.q_norm is not None and self.k_norm is not None:
            q_BTHE, k_BTKE = self.q_norm(q_BTHE), self.k_norm(k_BTKE)
        if self.uses_rope:
            q_BTHE, k_BTKE = rotate(q_BTHE, rotation), rotate(k_BTKE, rotation)
        return project(attend(q_BTHE, k_BTKE, v_BTKE, mask), self.o_proj.weight, self.float8)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig, precision: Precision) -> None:
        super().__init__()
        self.float8 = precision == "float8"
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate, up = project_each(x_BTD, (self.gate_proj.weight, self.up_proj.weight), self.float8)
        return project(F.silu(gate) * up, self.down_proj.weight, self.float8)


class Block(nn.Module):
    """One layer: attention and feed-forward, each after a norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int, precision: Precision) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = Attention(config, layer, precision)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = FeedForward(config, precision)
        self.activation_checkpointing = "none"

    def forward(self, x_BTD: Tensor, rotation: Rotation, mask: Mask) -> Tensor:
        checkpointing = self.activation_checkpointing if torch.is_grad_enabled() else "none"
        if checkpointing == "none":
            return self.forward_block(x_BTD, rotation, mask)
        if checkpointing == "full":
            out: Tensor = checkpoint(self.forward_block, x_BTD, rotation, mask, use_reentrant=False)
            return out
        # The gate's and up's outputs are most of a layer's memory and a sixth of its arithmetic.
        x_BTD = self.attention_residual(x_BTD, rotation, mask)
        out = checkpoint(self.mlp_residual, x_BTD, use_reentrant=False)
        return out

    def forward_block(self, x_BTD: Tensor, rotation: Rotation, mask: Mask) -> Tensor:
        return self.mlp_residual(self.attention_residual(x_BTD, rotation, mask))

    def attention_residual(self, x_BTD: Tensor, rotation: Rotation, mask: Mask) -> Tensor:
        out: Tensor = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotation, mask)
        return out

    def mlp_residual(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out

    def compile_parts(self) -> None:
        """Compile for a GPU; with float8, only what lies between recomputations.

        A graph that holds the recomputation too is 4 % faster in bf16, but keeps all operands of float8's products.
        """
        compiled = partial(torch.compile, dynamic=False, fullgraph=True)
        if self.activation_checkpointing == "none" or not self.mlp.float8:
            self.compile(dynamic=False, fullgraph=True)
        elif self.activation_checkpointing == "full":
            self.forward_block = compiled(self.forward_block)  # type: ignore[method-assign]
        else:
            self.attention_residual = compiled(self.attention_residual)  # type: ignore[method-assign]
            self.mlp_residual = compiled(self.mlp_residual)  # type: ignore[method-assign]


class Transformer(nn.Module):
    """Embedding, layers and final norm: `model.` in the transformers state dict."""

    def __init__(self, config: ModelConfig, precision: Precision) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer, precision) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class Decoder(nn.Module):
    """A causal language model; `forward` gives logits, `loss` the summed cross-entropy over unmasked labels."""

    def __init__(self, config: ModelConfig, precision: Precision = "fp32") -> None:
        super().__init__()
        self.config = config
        self.dtype = compute_dtype(precision)
        self.compiled = False
        self.model = Transformer(config, precision)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens_BT: Tensor, document_BT: DocumentIds = None) -> Tensor:
        """Logits [B, T, V]. With `document_BT` (a number per token) attention stays within equal numbers."""
        x_BTD = self.hidden(tokens_BT, document_BT)
        return F.linear(x_BTD, self.lm_head.weight.to(x_BTD.dtype))

    def loss(
        self, tokens_BT: Tensor, labels_BT: Tensor, document_BT: DocumentIds = None, z_loss: float = 0.0
    ) -> Tensor:
        """Sum of the cross-entropy over labels other than -100, in fp32; the caller divides by their number."""
        x_BTD = self.hidden(tokens_BT, document_BT)
        return head_loss(x_BTD.flatten(0, 1), self.lm_head.weight, labels_BT.flatten(), z_loss)

    def hidden(self, tokens_BT: Tensor, document_BT: DocumentIds) -> Tensor:
        """What the output head reads [B, T, D]. A token's position is its index in the sequence, as in SmolLM3."""
        position_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        if isinstance(document_BT, ContextParallelDocuments):
            position_T = document_BT.position_S
        rotation = rope_table(self.config, position_T)
        mask = make_mask(document_BT, self.compiled)
        x_BTD = self.model.embed_tokens(tokens_BT).to(self.dtype)
        for block in self.model.layers:
            x_BTD = block(x_BTD, rotation, mask)
        out: Tensor = self.model.norm(x_BTD)
        return out

    def compile_blocks(self) -> None:
        """Compile each layer (all alike share the code) and mask documents by FlexAttention; for a GPU.

        What is recomputed must have been chosen before.
        """
        self.compiled = True
        for block in self.model.layers:
            block.compile_parts()  # type: ignore[operator]

    def set_activation_checkpointing(self, what: str) -> None:
        """What the backward pass computes again instead of keeping: none, selective (feed-forward) or full."""
        for block in self.model.layers:
            block.activation_checkpointing = what  # type: ignore[assignment]
