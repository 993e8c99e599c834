"""Several devices under TRL: how a batch is divided, and what the Trainer and DeepSpeed are told about it."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any

from smolmake.errors import UserError
from smolmake.graph.specs.posttrain import PostTrainingRun
from smolmake.model.device import choose_device

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}
BUCKET = 50_000_000  # elements that are sent at a time


@dataclass(frozen=True)
class Devices:
    """The processes that train together, one a device; without torchrun, this one alone."""

    world: int
    strategy: str
    on_cpu: bool
    per_device: int
    accumulation: int


def divide(batch: int, run: PostTrainingRun) -> Devices:
    """The devices that torchrun's variables and the layout describe, and how they share a batch of that many rows.

    Raises:
        UserError: for another number of processes than devices, a batch that does not divide, a strategy that
            post-training does not have.
    """
    layout, world = run.layout, int(os.environ.get("WORLD_SIZE", "1"))
    if layout.gpus > 1 and layout.gpus != world:
        raise UserError(
            f"the layout has {layout.gpus} devices and {world} processes were started",
            key="runtime.layouts", value=f"nodes {layout.nodes}, gpus_per_node {layout.gpus_per_node}",
            remedy="start one process a device, as the rule does with torchrun",
        )  # fmt: skip
    on_cpu = choose_device(run.device, layout.gpus_per_node) == "cpu"
    strategy = layout.strategy if world > 1 else "ddp"
    _check_strategy(strategy, layout.context_parallel, on_cpu)
    share, rest = divmod(batch, world)
    micro = layout.micro_batch or max(n for n in range(1, run.micro_batch + 1) if share % n == 0)
    if rest or share % micro:
        raise UserError(
            f"a batch of {batch} rows does not divide over {world} devices with {micro} rows in a forward pass",
            key="runtime.layouts", value=f"micro_batch {layout.micro_batch}, {world} devices",
            remedy="change micro_batch, nodes or gpus_per_node so that their product divides the step's `batch`",
        )  # fmt: skip
    return Devices(world, strategy, on_cpu, micro, share // micro)


def _check_strategy(strategy: str, context_parallel: int, on_cpu: bool) -> None:
    known = f"use one of: ddp, fsdp, {', '.join(STAGES)}"
    install = "pip install -c constraints.txt -e '.[cluster]', or use strategy ddp or fsdp"
    saving = "leave context_parallel out; zero3 and activation checkpointing save memory"
    no_deepspeed = strategy in STAGES and importlib.util.find_spec("deepspeed") is None
    for wrong, what, remedy in (
        (context_parallel > 1, f"gives every device whole rows: it has no context_parallel {context_parallel}", saving),
        (strategy == "fsdp" and on_cpu, "with fsdp needs GPUs", "use strategy ddp or zero3 on CPUs"),
        (strategy not in ("ddp", "fsdp", *STAGES), f"has no strategy {strategy}", known),
        (no_deepspeed, f"with {strategy} needs DeepSpeed, which is not installed", install),
    ):
        if wrong:
            raise UserError(f"post-training {what}", key="runtime.layouts", value=strategy, remedy=remedy)


def sharing_settings(devices: Devices, clip_grad_norm: float) -> dict[str, Any]:
    """Arguments of transformers' TrainingArguments for these devices and their strategy."""
    settings: dict[str, Any] = {
        "per_device_train_batch_size": devices.per_device,
        "gradient_accumulation_steps": devices.accumulation,
        "use_cpu": devices.on_cpu,
        "bf16": not devices.on_cpu,
        "activation_checkpointing": not devices.on_cpu,
        "ddp_find_unused_parameters": False,
    }
    if devices.strategy in STAGES:
        if devices.on_cpu:
            _keep_deepspeed_on_cpu()
        # DeepSpeed's own autocast takes bf16's place: weights stay in fp32, as on one device.
        settings |= {"bf16": False, "deepspeed": deepspeed_settings(devices, clip_grad_norm)}
    if devices.strategy == "fsdp":
        wrapped = {"version": 2, "reshard_after_forward": True, "activation_checkpointing": True}
        settings |= {"fsdp": True, "fsdp_config": wrapped, "activation_checkpointing": False}
    return settings


def _keep_deepspeed_on_cpu() -> None:
    """Before anything else imports DeepSpeed: no search for a GPU, and no C++ compiled for what gloo does."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def deepspeed_settings(devices: Devices, clip_grad_norm: float) -> dict[str, Any]:
    """DeepSpeed's configuration: the stage of ZeRO, whole fp32 weights on saving, bf16 arithmetic on GPUs."""
    zero: dict[str, Any] = {
        "stage": STAGES[devices.strategy],
        "overlap_comm": not devices.on_cpu,
        "contiguous_gradients": True,
        "reduce_bucket_size": BUCKET,
    }
    if zero["stage"] == 3:
        zero |= {
            "stage3_prefetch_bucket_size": BUCKET,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_gather_16bit_weights_on_model_save": True,  # weights in the precision that they have: fp32
        }
    else:
        zero["allgather_bucket_size"] = BUCKET
    return {
        "train_micro_batch_size_per_gpu": devices.per_device,
        "gradient_accumulation_steps": devices.accumulation,
        "gradient_clipping": clip_grad_norm,
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
        "torch_autocast": {"enabled": not devices.on_cpu, "dtype": "bfloat16"},
        "zero_optimization": zero,
    }
