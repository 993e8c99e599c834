"""Several devices: how processes find each other, how parameters are shared, and how tensors come together again.

Every process computes its own rows of the global batch, or its own tokens of rows that it shares with its neighbours
(model/context_parallel.py), and gradients are averaged, so any number of processes sees the same batches. DDP keeps a
copy of everything on each device; FSDP2 (Zhao et al. 2023) shards weights, gradients and the optimizer's state. The
stages of ZeRO (Rajbhandari et al. 2020) are settings of the same machinery: zero3 is fsdp; zero2 keeps whole weights
from the forward to the backward pass; zero1 also adds up whole gradients over micro-batches.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from smolmake.errors import UserError
from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.model.config import ModelConfig
from smolmake.model.context_parallel import GROUPS
from smolmake.model.decoder import Decoder
from smolmake.model.device import choose_device
from smolmake.recipe.runtime import DeviceLayout

Forward = Callable[..., Tensor]
HANG_MINUTES = 10
RELEASE = 0.3  # seconds


@dataclass(frozen=True)
class ParallelContext:
    """The processes that train together; without torchrun, this one alone."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    layout: DeviceLayout = DeviceLayout()
    cp_group: str = ""  # the name in model.context_parallel.GROUPS of the processes that share this one's sequences

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    @property
    def cp_size(self) -> int:
        """How many processes share each sequence; they are neighbours by rank."""
        return self.layout.context_parallel if self.world_size > 1 else 1

    def rows(self, global_batch_size: int) -> range:
        """This process's rows of the global batch.

        Raises:
            UserError: if the batch does not divide by the processes.
        """
        readers = self.world_size // self.cp_size
        share, rest = divmod(global_batch_size, readers)
        if rest:
            raise UserError(
                f"a global batch of {global_batch_size} sequences does not divide over {readers} processes"
                + (f" or groups of {self.cp_size}" if self.cp_size > 1 else ""),
                key="pretraining.global_batch_size", value=global_batch_size,
                remedy="choose nodes times gpus_per_node over context_parallel so that it divides the batch",
            )  # fmt: skip
        reader = self.rank // self.cp_size
        return range(reader * share, (reader + 1) * share)

    def cp_slice(self, length: int) -> slice:
        """This process's stretch of a sequence of that many tokens: all of it, unless it shares sequences."""
        own = length // self.cp_size
        first = self.rank % self.cp_size * own
        return slice(first, first + own)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set on any process."""
        if self.world_size == 1:
            return list(flags)
        return [bool(total) for total in self.sum(torch.tensor(flags, dtype=torch.int64))]

    def broadcast(self, value: str | None) -> str | None:
        """The first process's value."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()


def init_parallel(device: str, layout: DeviceLayout) -> ParallelContext:
    """The processes that torchrun's variables describe, and this process's device."""
    kind = choose_device(device, layout.gpus_per_node)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return ParallelContext(torch.device(kind), layout=layout)
    local = int(os.environ["LOCAL_RANK"])
    place = torch.device("cuda", local) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(place)
    # A rank that dies or hangs ends the others after this time, and the job starts again from its last recovery.
    limit = datetime.timedelta(minutes=HANG_MINUTES)
    backend = "cuda:nccl,cpu:gloo" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=limit)
    return with_layout(ParallelContext(place, dist.get_rank(), world_size), layout)


def with_layout(parallel: ParallelContext, layout: DeviceLayout) -> ParallelContext:
    """The same processes in another layout. All of them call it."""
    parallel = replace(parallel, layout=layout, cp_group=f"sequence over {layout.context_parallel}")
    if parallel.cp_size > 1 and parallel.world_size % parallel.cp_size == 0:
        GROUPS[parallel.cp_group] = dist.new_subgroups(parallel.cp_size)[0]  # type: ignore[no-untyped-call]
    return parallel


def destroy_parallel(parallel: ParallelContext) -> None:
    GROUPS.clear()
    if parallel.world_size > 1:
        destroy_process_group()


def destroy_process_group() -> None:
    """Leave torch.distributed's default parallel, at the end of what its processes do together.

    Gloo's thread needs Python's lock to let go of the last message. The group's end waits for that thread, and keeps
    the lock if a DDP model is the last to know the parallel: both then wait for ever. Asleep, this thread has no lock.
    """
    time.sleep(RELEASE)
    dist.destroy_process_group()


def check_layout(parallel: ParallelContext, spec: SegmentSpec, config: ModelConfig) -> None:
    """Refuse a layout that this model, batch or optimizer cannot be spread over.

    Raises:
        UserError: with the key to change.
    """
    _check_context_parallel(parallel, spec.sequence_length, config)
    batches = {piece.size for piece in spec.batches or ()} | {spec.global_batch_size}
    for batch in sorted(batches):
        parallel.rows(batch)
    layout, strategy, nodes = parallel.layout, parallel.layout.strategy, parallel.layout.nodes
    if parallel.world_size > 1 and layout.gpus > 1 and layout.gpus != parallel.world_size:
        raise UserError(
            f"the layout has {layout.gpus} devices and {parallel.world_size} processes were started",
            key="runtime.layouts", value=f"nodes {nodes}, gpus_per_node {layout.gpus_per_node}",
            remedy="start one process a device, as the rule does with torchrun",
        )  # fmt: skip
    if strategy == "hsdp" and parallel.world_size % nodes:
        raise UserError(
            "hsdp shards within a node, and the processes do not divide by the nodes",
            key="runtime.layouts", value=f"{parallel.world_size} processes, {nodes} nodes",
            remedy="use nodes of equal size",
        )  # fmt: skip
    if spec.optimizer.name == "muon" and parallel.world_size > 1 and strategy != "ddp":
        raise UserError(
            "muon orthogonalises whole matrices, which no device has when they are sharded",
            key="runtime.layouts", value=strategy, remedy="use strategy ddp, or the optimizer adamw",
        )  # fmt: skip
    if spec.precision == "float8":
        _check_float8(parallel.device, config)


def _check_context_parallel(parallel: ParallelContext, length: int, config: ModelConfig) -> None:
    sharing, key_heads = parallel.cp_size, config.num_key_value_heads
    if parallel.world_size % sharing:
        trouble = f"{parallel.world_size} processes do not divide into groups that share a sequence"
    elif length % sharing:
        trouble = f"a sequence of {length} tokens does not divide into equal stretches"
    elif config.num_attention_heads % sharing or key_heads % sharing and sharing % key_heads:
        trouble = f"{config.num_attention_heads} query and {key_heads} key heads do not divide over the devices"
    else:
        return
    raise UserError(
        f"{trouble} of a group",
        key="runtime.layouts", value=f"context_parallel {sharing}",
        remedy="use a divisor of the processes, the query heads and the sequence length, such as a power of two",
    )  # fmt: skip


def _check_float8(device: torch.device, config: ModelConfig) -> None:
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise UserError(
            "this device cannot multiply float8",
            key="pretraining.precision", value="float8", remedy="use bf16, or a GPU of the Hopper generation or newer",
        )  # fmt: skip
    sizes = {"hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size}
    for name, size in (sizes | {"key and value width": config.num_key_value_heads * config.head_dim}).items():
        if size % 16:
            raise UserError(
                "float8 needs sizes that are multiples of 16",
                key="pretraining.precision", value=f"{name} {size}", remedy="use bf16, or change the model's shape",
            )  # fmt: skip


@dataclass(frozen=True)
class ParallelModel:
    """A model that is spread over the processes. `forward(last, ...)` gives the loss of one micro-batch; gradients are
    complete on every process after a call with `last`."""

    module: Decoder
    forward: Forward
    parallel: ParallelContext


def parallelize(model: Decoder, parallel: ParallelContext) -> ParallelModel:
    """Spread the model over the processes as the layout says."""
    if parallel.world_size == 1:
        return ParallelModel(model, lambda last, *batch: model.loss(*batch), parallel)
    strategy = parallel.layout.strategy
    forward = _ddp(model) if strategy == "ddp" else _fsdp(model, parallel, strategy)
    return ParallelModel(model, forward, parallel)


def _ddp(model: Decoder) -> Forward:
    replica = DistributedDataParallel(_Loss(model), gradient_as_bucket_view=True, bucket_cap_mb=50)

    def forward(last: bool, *batch: Any) -> Tensor:
        with contextlib.nullcontext() if last else replica.no_sync():
            return replica(*batch)  # type: ignore[no-any-return]

    return forward


def _fsdp(model: Decoder, parallel: ParallelContext, strategy: str) -> Forward:
    if strategy == "hsdp":
        nodes = parallel.layout.nodes
        mesh = init_device_mesh(
            parallel.device.type, (nodes, parallel.world_size // nodes), mesh_dim_names=("copies", "shards")
        )
    else:
        mesh = init_device_mesh(parallel.device.type, (parallel.world_size,), mesh_dim_names=("shards",))
    options: dict[str, Any] = {
        "mesh": mesh,
        "reshard_after_forward": strategy in ("fsdp", "hsdp", "zero3"),
        "mp_policy": MixedPrecisionPolicy(model.dtype, torch.float32, cast_forward_inputs=False),
    }
    for block in model.model.layers:
        fully_shard(block, **options)
    fully_shard(model, **options)
    register_fsdp_forward_method(model, "loss")
    assert isinstance(model, FSDPModule)

    def forward(last: bool, *batch: Any) -> Tensor:
        model.set_is_last_backward(last)
        model.set_requires_gradient_sync(last or strategy != "zero1")
        return model.loss(*batch)

    return forward


class _Loss(nn.Module):
    """The model's loss as a module's forward, which is what DDP hooks into."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, *batch: Any) -> Tensor:
        return self.model.loss(*batch)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor that may be sharded, put together on every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def distribute_like(tensor: Tensor, sharded: Tensor) -> Tensor:
    """A whole tensor cut as `sharded` is; every process gives the same tensor."""
    tensor = tensor.to(sharded.device)
    if isinstance(tensor, DTensor) or not isinstance(sharded, DTensor):
        return tensor
    return distribute_tensor(tensor, sharded.device_mesh, sharded.placements, src_data_rank=None)
