"""What each kind of step is made from: one frozen model a kind, typed from the recipe down to the kernel.

A step's identity is the digest of its `Spec` in canonical JSON, of its inputs' ids and of the code that computes it.
How it runs (devices, threads, folders) is in a `Run` model beside it and decides no result.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PlainSerializer

from smolmake.execution.step import Run, Spec
from smolmake.recipe.pretraining import Guard, ModelShape, Optimizer, Precision
from smolmake.recipe.runtime import Alerts, DeviceLayout, Layout, Preflight, Upload
from smolmake.recipe.schedule import BatchPiece, SchedulePiece, batch_at
from smolmake.recipe.sources import Argument


class DeviceRun(Run):
    """A step that computes on the devices of a layout."""

    layout: Layout = Layout()
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def nodes(self) -> int:
        return self.layout.nodes

    @property
    def gpus_per_node(self) -> int:
        return self.layout.gpus_per_node

    @property
    def launcher(self) -> str:
        """What starts the step's script on its devices, as the beginning of a shell command."""
        return self.layout.launcher(self.threads)


# Data: GeneratedSpec and GeneratedRun.


class GeneratedSpec(Spec):
    """A program of the user's: the digests of its files by name, and what else its output depends on."""

    code: dict[str, str]
    arguments: dict[str, Argument | list[Argument]]
    reads: dict[str, str]
    packages: dict[str, str]
    python: str | None = None


class GeneratedRun(Run):
    """Where the program lies, and the files, folders or globs that the recipe reads of its output."""

    script: str
    expected: list[str]


# Pretraining.


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
    global_batch: int
    sequence_length: int
    rope_theta: float | None
    optimizer: UsedOptimizer
    fresh_optimizer: bool
    precision: Precision
    z_loss: float
    guard: Guard | None = None
    model: ModelShape | None = None
    seed: int | None = None

    def batch_size(self, step: int) -> int:
        """Sequences of a step's global batch."""
        return self.global_batch if self.batches is None else batch_at(self.batches, step)[0]

    def tokens_before(self, step: int) -> int:
        """Tokens that the run has read before a step."""
        sequences = step * self.global_batch if self.batches is None else batch_at(self.batches, step)[1]
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


__all__ = [
    "DeviceRun",
    "GeneratedRun",
    "GeneratedSpec",
    "PreflightRun",
    "PreflightSpec",
    "Run",
    "SegmentRun",
    "SegmentSpec",
    "Spec",
]
