"""The recipe's sections on machines and money: nothing here is part of any result's identity."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from smolmake.recipe.types import Count, FilePath, LaidOut, Name, Problem, Seconds, Section

Strategy = Literal["ddp", "fsdp", "hsdp", "zero1", "zero2", "zero3"]
Checkpointing = Literal["none", "selective", "full"]


class DeviceLayout(Section):
    """Devices, and how a training is spread over them."""

    nodes: Count = Field(1, ge=1, le=100_000, description="Machines.")
    gpus_per_node: Count = Field(0, ge=0, le=1024, description="GPUs of each; 0: see `device`.")
    strategy: Strategy = Field("ddp", description="How it is shared.")
    context_parallel: Count = Field(1, ge=1, description="Devices that share one sequence.")
    activation_checkpointing: Checkpointing = Field("none", description="What is recomputed.")

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node


class Layout(DeviceLayout):
    """The devices of one kind of job and what the plan expects of them. Part of no result's identity."""

    micro_batch: Count | None = Field(None, ge=1, description="Sequences per forward pass and device; null: runtime's.")
    mfu: float | None = Field(None, gt=0, le=1, description="Expected model FLOPs utilisation; null: cost.mfu.")

    def launcher(self, threads: int = 1) -> str:
        """What starts a training script on these devices, as the beginning of a shell command."""
        if self.gpus <= 1:
            return "python"
        if self.nodes == 1:
            return f"python -m smolmake.cluster.torchrun {self.gpus_per_node}"
        # One process a GPU, which srun starts inside a step of its own, with Slurm's variables; if one fails, srun ends
        # the others. It cannot be left to torchrun on each node: nobody would tell the nodes of each other's failures.
        return (
            f"srun --nodes={self.nodes} --ntasks={self.gpus} --ntasks-per-node={self.gpus_per_node} "
            f"--cpus-per-task={threads} --kill-on-bad-exit=1 python -m smolmake.cluster.srun"
        )


class Preflight(Section):
    """What the machines of a layout must show before it trains; a speed of null is measured and not judged."""

    when: Literal["gpus", "always", "never"] = Field("gpus", description="gpus: for layouts that have any.")
    burn_in: Seconds = Field(20.0, ge=0, description="Time of matrix products on every GPU.")
    share_of_peak: float = Field(0.6, ge=0, le=1, description="Of its data sheet's dense bf16 that a GPU must reach.")
    all_reduce_within: float | None = Field(100.0, gt=0, description="GB/s of an all-reduce within a node.")
    all_reduce_between: float | None = Field(20.0, gt=0, description="GB/s of an all-reduce over all nodes.")


class Upload(Section):
    """Copies of recovery checkpoints, milestones and finished segments, made in the background."""

    url: str = Field(
        ..., pattern=r"^[a-z][a-z0-9+.-]*://[^@]+$", description="An fsspec address, such as s3://bucket/runs."
    )
    remove_local: bool = Field(False, description="Delete local copies once they are uploaded, but for the newest.")
    retries: Count = Field(5, ge=0, le=20, description="Tries after a failed one, each after twice the time.")


class Alerts(Section):
    """Messages of events, failed jobs and the run's end, posted to a webhook such as a chat's."""

    webhook_env: str = Field(
        "SMOLMAKE_WEBHOOK",
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="The environment variable that holds the webhook's address, which is a secret.",
    )
    pause: Seconds = Field(600.0, ge=0, description="Time in which a job sends one message of a kind at most.")


class Runtime(Section):
    """How it runs: nothing here is part of any result's identity."""

    micro_batch: Count = Field(16, ge=1, description="Sequences per forward pass at the pretraining length.")
    threads: Count = Field(1, ge=1, le=4096, description="CPU threads of a pretraining process.")
    threads_posttraining: Count = Field(
        1, ge=1, le=4096, description="CPU threads of mid-training, SFT, pairs and APO."
    )
    data_workers: Count = Field(
        1, ge=1, le=4096, description="Processes of a step that cleans or tokenizes a source, on one node."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="auto: the layout's GPUs; without any one where there is one, else the CPU. cpu: its "
        "processes compute on the CPU, and no GPUs are booked.",
    )
    recovery_every: Seconds = Field(600.0, gt=0, description="Time between recovery checkpoints inside a segment.")
    scratch: FilePath | None = Field(
        None,
        description="A folder on each node's own disk that pretraining copies its token shards to; variables of the "
        "node, such as `$TMPDIR`, are filled in. null: they are read where they lie.",
    )
    layouts: dict[LaidOut, Layout] = Field(
        {}, description="Devices by stage or step (stage1, lc1, mid, sft, apo, evaluation, ...) or `pretraining`."
    )
    preflight: Preflight = Field(Preflight(), description="Checks of a layout's machines before it trains.")
    compile: Literal["auto", "on", "off"] = Field("auto", description="Compile the model; auto does so on a GPU.")
    noise_scale_every: Count = Field(0, ge=0, description="Steps between measures of gradient noise; 0: none.")
    source_loss_every: Count = Field(0, ge=0, description="Steps between measures of the loss by source; 0: none.")
    trackers: list[Literal["trackio", "tensorboard", "wandb"]] = Field(
        [], description="Where pretraining's metrics go too, in addition to files."
    )
    upload: Upload | None = Field(None, description="Where pretraining's checkpoints are copied to.")
    alerts: Alerts | None = Field(None, description="Where events and the run's end are told.")

    def layout_name(self, stage: str) -> str:
        """The key of the layout of a stage of pretraining or long context."""
        return stage if stage in self.layouts else "pretraining"

    def layout(self, stage: str) -> Layout:
        """The devices of a stage of pretraining or long context."""
        return self.layouts.get(self.layout_name(stage)) or Layout()


class BudgetLine(Section):
    """A line of the budget: GPUs for some days, or a number of runs that take some GPU-hours each."""

    gpus: Count | None = Field(None, ge=1, description="GPUs held at a time.")
    days: float | None = Field(None, gt=0, description="For how long.")
    runs: Count | None = Field(None, ge=1, description="How often, where a line is counted in runs.")
    gpu_hours_each: float | None = Field(None, gt=0, description="GPU-hours of each run.")
    note: str = Field("", description="What it is for.")

    @model_validator(mode="after")
    def _one_count(self) -> Self:
        given = {key for key in ("gpus", "days", "runs", "gpu_hours_each") if getattr(self, key) is not None}
        if given not in ({"gpus", "days"}, {"runs", "gpu_hours_each"}):
            raise ValueError("give `gpus` and `days`, or `runs` and `gpu_hours_each`")
        return self

    @property
    def gpu_hours(self) -> float:
        """GPUs x days x 24, or runs x GPU-hours of each."""
        return (self.gpus or 0) * (self.days or 0.0) * 24 + (self.runs or 0) * (self.gpu_hours_each or 0.0)

    @property
    def told(self) -> str:
        """What its GPU-hours are the product of."""
        if self.runs is not None:
            return f"{self.runs:,} x {self.gpu_hours_each:g} h"
        return f"{self.gpus:,} GPUs x {self.days:g} d"


class Budget(Section):
    """What the run may cost. Over it nothing starts without `--config consent=GPU_HOURS`."""

    gpu_hours: Count | None = Field(None, ge=0, description="Limit on the GPU-hours of the graph, spent ones included.")
    money: float | None = Field(None, ge=0, description="Limit on its price.")
    lines: dict[Name, BudgetLine] = Field({}, description="The project's whole budget by line, shown by the plan.")


class CostSettings(Section):
    """What the plan calculates with. Part of no result's identity."""

    gpu: str = Field("h100", description="The kind of GPU: a100, h100, h100-pcie, ... (smolmake/hardware/gpus.py).")
    gpus: Count | None = Field(
        None, ge=1, description="GPUs that may be used at a time; null: as many as are asked for."
    )
    mfu: float = Field(0.30, gt=0, le=1, description="Expected model FLOPs utilisation of training, in bfloat16.")
    goodput: float = Field(1.0, gt=0, le=1, description="Share of the time that becomes kept steps: stops, restarts.")
    price_per_gpu_hour: float | None = Field(None, ge=0, description="Price of a GPU-hour.")
    currency: str = Field("USD", description="Of the price.")
    cpu_flops: float = Field(5e10, gt=0, description="What one CPU core does in a second, for steps without GPUs.")
    budget: Budget = Field(Budget(), description="What it may cost.")

    @model_validator(mode="after")
    def _money_has_a_price(self) -> Self:
        if self.budget.money is not None and self.price_per_gpu_hour is None:
            remedy = "give cost.price_per_gpu_hour, or a limit in gpu_hours"
            raise Problem("a limit in money cannot be checked without a price", key="budget.money", remedy=remedy)
        return self
