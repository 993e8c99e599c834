"""What a job computes on: `runtime.device` of the recipe, and what the machine has."""

import torch


def choose_device(asked: str) -> str:
    """The kind of device of a training: what is asked for, or for `auto` a GPU where there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def on_gpu(asked: str) -> bool:
    """Whether a job that can do without a GPU has one to compute on: where there is one, unless `cpu` is asked for."""
    return asked != "cpu" and torch.cuda.is_available()
