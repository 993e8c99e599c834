"""What a job computes on: the recipe's `runtime.device` and its layout, and what is here."""

from typing import Literal

import torch

from smolmake.errors import UserError


def choose_device(requested: str, gpus_per_node: int = 0) -> Literal["cpu", "cuda"]:
    """The kind of device of a job: a GPU where its layout has any, or where there is one, unless it is to be the CPU.

    Raises:
        UserError: if fewer GPUs are here than the layout has.
    """
    if requested == "cpu":
        return "cpu"
    here, needed = torch.cuda.device_count(), gpus_per_node or int(requested == "cuda")
    if here < needed:
        raise UserError(
            f"this job needs {needed} GPUs, and PyTorch finds {here} here",
            key="runtime.layouts", value=f"gpus_per_node: {gpus_per_node}",
            remedy="give the layout what the machine has, or run on a machine that has more; with `runtime.device: cpu`"
            " the layout's processes compute on the CPU",
        )  # fmt: skip
    return "cuda" if here else "cpu"
