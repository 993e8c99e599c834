"""A linear merge of models: the weighted mean of every parameter (model soups, Wortsman et al. 2022)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from smolmake.errors import UserError


def merge_linear(models: dict[str, Path], weights: dict[str, float], out: Path) -> None:
    """Write model.safetensors into `out`: sum of weight * parameter over the models, accumulated in fp32.

    Raises:
        UserError: if the models do not have the same parameters and shapes.
    """
    merged: dict[str, torch.Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for name, folder in models.items():
        tensors = load_file(folder / "model.safetensors")
        shapes = {key: tensor.shape for key, tensor in tensors.items()}
        if merged and shapes != {key: tensor.shape for key, tensor in merged.items()}:
            raise UserError(
                f"the model `{name}` has other parameters than the first one",
                file=folder, key="merge.weights", value=name, remedy="merge checkpoints of one architecture only",
            )  # fmt: skip
        for key, tensor in tensors.items():
            dtypes.setdefault(key, tensor.dtype)
            part = tensor.float() * weights[name]
            merged[key] = merged[key] + part if key in merged else part
    save_file(
        {key: tensor.to(dtypes[key]) for key, tensor in merged.items()}, out / "model.safetensors", {"format": "pt"}
    )
