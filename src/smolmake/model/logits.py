"""Whether a saved checkpoint is the model that was trained: its logits on a fixed text, as the trainer has them.

The trainer's decoder and transformers' class are two programs for one model. What a conversion loses, such as a RoPE
theta or an epsilon, shows nowhere but in the numbers. So the decoder's logits are saved beside the weights, and whoever
measures the checkpoint compares them first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from smolmake.errors import UserError

LOGITS = "logits.safetensors"
TOKENS, KEPT = 64, 16  # tokens of the text that are read; logits are kept of the last ones
TEXT = """The river rose 12.5 cm on 3 March; by noon, 1,024 people had left. "Où sont-ils allés ?" asked Ana.
def area(radius: float) -> float:
    return 3.14159 * radius**2  # in m²
Если x > 0, то √x² = x. 数学は楽しい。 After that, nobody spoke of it again for more than forty years."""
# How far apart they may be, in standard deviations of the logits, by the type in which the checkpoint is read.
BOUNDS = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}


@torch.inference_mode()
def check_logits(model: Any, tokenizer: Any, folder: Path) -> float | None:
    """How far transformers' logits are from the trainer's: the root mean square of the differences, in standard
    deviations of the logits.

    None for a checkpoint that has none of the trainer's: it was not converted.

    Raises:
        UserError: if it is larger than rounding explains, or the tokenizer gives other tokens.
    """
    if not (folder / LOGITS).is_file():
        return None
    with safe_open(folder / LOGITS, framework="pt") as file:
        tokens, expected = file.get_tensor("tokens"), file.get_tensor("logits")
    remedy = f"report it with this checkpoint; for a folder that was changed by hand, remove its {LOGITS}"
    found = tokenizer(TEXT, add_special_tokens=False)["input_ids"][: len(tokens)]
    if found != tokens.tolist():
        raise UserError(
            "the checkpoint's tokenizer gives other tokens than the one that it was trained with",
            file=folder, value=found[:8], remedy=remedy,
        )  # fmt: skip
    logits = model(tokens[None].to(model.device)).logits[0, -len(expected) :].float().cpu()
    apart, bound = float((logits - expected).square().mean().sqrt() / expected.std()), BOUNDS[model.dtype]
    if not apart <= bound:
        raise UserError(
            f"transformers computes other logits from this checkpoint than the trainer: they differ by {apart:.2g} of"
            f" their standard deviation, and {bound:.2g} is rounding in {str(model.dtype).removeprefix('torch.')}",
            file=folder, remedy=remedy,
        )  # fmt: skip
    return apart
