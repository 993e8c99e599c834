"""Rotary position embeddings (Su et al. 2021), with the frequencies of YaRN and Llama 3 for longer sequences."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from smolmake.model.config import ModelConfig


def rope_table(config: ModelConfig, position_T: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, E] of positions [T] (half-split layout, as in Llama)."""
    device = position_T.device
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.int64, device=device).float() / config.head_dim
    frequency, factor = 1.0 / config.rope_theta**exponent, 1.0
    scaling = config.rope_scaling
    if scaling is not None and scaling["rope_type"] == "yarn":
        frequency, factor = _yarn(config, frequency, scaling)
    elif scaling is not None:
        frequency = _llama3(frequency, scaling)
    angle_TE = torch.outer(position_T.float(), frequency).repeat(1, 2)
    if factor == 1.0:
        return angle_TE.cos(), angle_TE.sin()
    return angle_TE.cos() * factor, angle_TE.sin() * factor


def rotate(x_BTHE: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (i, i + E/2) of the last dimension."""
    cos_THE, sin_THE = (table[:, None] for table in rotation)
    first, second = x_BTHE.chunk(2, dim=-1)
    return (x_BTHE * cos_THE + torch.cat((-second, first), dim=-1) * sin_THE).to(x_BTHE.dtype)


def yarn(factor: float, trained_length: int) -> dict[str, Any]:
    """Settings of YaRN (Peng et al. 2023) to read `factor` times as far as the model was trained, at inference."""
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": trained_length}


def _yarn(config: ModelConfig, frequency: Tensor, scaling: dict[str, Any]) -> tuple[Tensor, float]:
    """Slow frequencies are interpolated, fast ones kept; logits get the temperature 0.1 ln(factor) + 1."""
    length, width, factor = scaling["original_max_position_embeddings"], config.head_dim, scaling["factor"]

    def dimension(turns: float) -> float:
        return width * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    low = max(math.floor(dimension(scaling.get("beta_fast", 32.0))), 0)
    high = min(math.ceil(dimension(scaling.get("beta_slow", 1.0))), width - 1)
    place = torch.arange(width // 2, device=frequency.device).float()
    interpolated = ((place - low) / max(high - low, 0.001)).clamp(0, 1)
    attention = scaling.get("attention_factor") or (0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0)
    return frequency / factor * interpolated + frequency * (1 - interpolated), float(attention)


def _llama3(frequency: Tensor, scaling: dict[str, Any]) -> Tensor:
    """Llama 3.1's rule: wavelengths beyond the trained length are stretched, those near it in part."""
    length, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = length * frequency / (2 * math.pi)  # full turns within the trained length
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    out: Tensor = (1 - smooth) * frequency / factor + smooth * frequency
    return out
