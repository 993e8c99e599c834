"""What the steps of pretraining are made from."""

from __future__ import annotations

from functools import partial
from operator import eq
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from smolmake.execution.step import Spec
from smolmake.graph.specs.runs import DeviceRun
from smolmake.recipe.pretraining import Guard, ModelShape, Optimizer, Precision
from smolmake.recipe.runtime import Alerts, DeviceLayout, Preflight, Upload
from smolmake.recipe.schedule import BatchPiece, SchedulePiece, batch_at

UsedOptimizer = Annotated[Optimizer, PlainSerializer(Optimizer.used)]


class SegmentSpec(Spec):
    """Steps [start, end) of a stage that began at step `stage_start`, with what holds within them.

    `batches` are sizes within a batch-size warm-up. A segment without a parent has `model` and `seed`; `rope_theta`
    None keeps the parent's.
    """

    start: int
    end: int
    stage_start: int
    schedule: tuple[SchedulePiece, ...]
    batches: tuple[BatchPiece, ...] | None = None
    global_batch_size: int
    sequence_length: int
    rope_theta: float | None
    optimizer: UsedOptimizer
    fresh_optimizer: bool
    precision: Precision
    z_loss: float = Field(0.0, exclude_if=partial(eq, 0.0))
    guard: Guard | None = None
    model: ModelShape | None = None
    seed: int | None = None

    def batch_size(self, step: int) -> int:
        """Sequences of a step's global batch."""
        return self.global_batch_size if self.batches is None else batch_at(self.batches, step)[0]

    def tokens_before(self, step: int) -> int:
        """Tokens that the run has read before a step."""
        sequences = step * self.global_batch_size if self.batches is None else batch_at(self.batches, step)[1]
        return sequences * self.sequence_length

    def tokens_until(self, step: int) -> int:
        """Tokens that the segment has read before a step."""
        return self.tokens_before(step) - self.tokens_before(self.start)


class SegmentRun(DeviceRun):
    """`micro_batch`: sequences of this length per forward pass and device; `preflight`: the check of its layout;
    `milestones`: steps after which weights are kept. The others are `run`'s of the recipe."""

    micro_batch: int
    milestones: tuple[int, ...]
    preflight: str
    compile: Literal["auto", "on", "off"]
    recovery_every: float
    scratch: str | None
    noise_scale_every: int
    source_loss_every: int
    trackers: tuple[str, ...]
    upload: Upload | None
    alerts: Alerts | None


class PreflightSpec(Spec):
    """A layout and the model that is to be trained on it, in sequences of the longest of its stages."""

    layout: DeviceLayout
    model: ModelShape
    rope_theta: float
    vocab_size: int
    optimizer: UsedOptimizer
    precision: Precision
    sequence_length: int


class PreflightRun(DeviceRun):
    """`limits` are what the machines must show; `mfu` and `cpu_flops` say how fast tokens must be read."""

    limits: Preflight
    mfu: float
    cpu_flops: float
    recovery_every: float
    scratch: str | None
