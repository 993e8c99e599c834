"""Initial values as a pure function of (seed, parameter name), whatever the sharding or the order of creation."""

from __future__ import annotations

import hashlib
import math

import torch

from smolmake.model.decoder import Decoder

SCALED = ("o_proj.weight", "down_proj.weight")


@torch.no_grad()
def initialise(model: Decoder, seed: int) -> None:
    """Fill the model: matrices N(0, std), norms 1; scaled output projections N(0, std / sqrt(2 L)).

    The scaling is GPT-2's, as in SmolLM3: it keeps the residual stream's variance from growing with depth.
    """
    std = model.config.initializer_range
    scaled_std = std / math.sqrt(2 * model.config.num_hidden_layers) if model.config.scale_output_projections else std
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(1.0)
            continue
        generator = torch.Generator().manual_seed(name_seed(seed, name))
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        parameter.copy_(values * (scaled_std if name.endswith(SCALED) else std))


def name_seed(seed: int, name: str) -> int:
    """A 63-bit seed from the run's seed and a name."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
