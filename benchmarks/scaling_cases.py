"""The cases of benchmarks/scaling.py, in the words of benchmarks/train.py and posttrain.py, and their minutes.

`{gpus}` stands for the number of GPUs. The minutes of a case are from runs on H200s where there were any, with
compilation; saving is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smolmake.graph.specs.pretrain import PreflightRun, PreflightSpec
from smolmake.recipe.pretraining import ModelShape, Optimizer
from smolmake.recipe.runtime import Layout, Preflight

PARTS = ("single", "shared", "posttrain", "long", "context", "saving", "drills")
DRILLS = [("ddp", 1), ("fsdp", 1), ("zero2", 1), ("zero1", 1), ("hsdp", 1), ("ddp", 2), ("fsdp", 4), ("fsdp", 8)]


@dataclass(frozen=True)
class Cases:
    single: list[str]
    shared: list[str]
    posttrain: list[str]
    long: list[str]
    context: list[str]
    saving: list[str]
    steps: dict[str, int]
    minutes: dict[str, float]

    def with_shared(self, texts: list[str]) -> Cases:
        return replace(self, shared=texts)


FULL = Cases(
    single=["3b:bf16:4096:900:4", "1b:bf16:4096:900:8", "3b:float8:4096:900:4", "1b:float8:4096:900:8"],
    shared=[
        "3b:bf16:4096:900:4:ddp", "3b:bf16:4096:900:4:fsdp", "3b:bf16:4096:900:4:zero2", "3b:bf16:4096:900:4:zero1",
        "3b:bf16:4096:900:4:hsdp-2", "1b:bf16:4096:900:8:ddp", "1b:bf16:4096:900:8:fsdp", "3b:float8:4096:900:4:ddp",
        "1b:float8:4096:900:8:ddp",
    ],
    posttrain=["sft:3b:32768:1500:1:zero3", "apo:3b:4096:900:1:zero3"],
    long=["3b:bf16+selective:65536:0:1", "3b:bf16+selective:65536:8000:1"],
    context=["3b:bf16+selective:65536:0:1:fsdp:{gpus}", "3b:bf16+selective:65536:8000:1:fsdp:{gpus}"],
    saving=["3b:bf16:4096:900:4:ddp", "3b:bf16:4096:900:4:fsdp"],
    steps={"single": 5, "shared": 5, "long": 3, "context": 3, "saving": 5},
    minutes={"single": 1.0, "shared": 0.9, "posttrain": 1.2, "long": 2.5, "context": 1.5, "saving": 4.5, "drills": 0.8},
)  # fmt: skip
TINY = Cases(
    single=["tiny:fp32:64:20:2"],
    shared=["tiny:fp32:64:20:2:ddp", "tiny:fp32:64:20:2:fsdp"],
    posttrain=["sft:tiny:512:60:1:zero3", "apo:tiny:256:60:1:zero3"],
    long=["tiny:fp32+selective:256:0:1"],
    context=["tiny:fp32+selective:256:0:1:fsdp:{gpus}"],
    saving=["toy:fp32:64:20:2:ddp", "toy:fp32:64:20:2:fsdp"],
    steps={"single": 3, "shared": 3, "long": 3, "context": 3, "saving": 3},
    minutes={"single": 0.1, "shared": 0.1, "posttrain": 0.4, "long": 0.1, "context": 0.1, "saving": 0.2, "drills": 0.5},
)  # fmt: skip

SMOLLM3 = ModelShape(
    hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16, num_key_value_heads=4
)  # fmt: skip
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 8, "num_key_value_heads": 4}


def preflight_job(strategy: str, context: int, gpus: int, folder: Path, tiny: bool) -> dict[str, Any]:
    """A job of workflow/scripts/preflight.py."""
    layout = Layout(
        strategy=strategy, context_parallel=context,
        # hsdp: two groups of copies, on this one node
        nodes=2 if strategy == "hsdp" else 1, gpus_per_node=gpus // 2 if strategy == "hsdp" else gpus,
    )  # fmt: skip
    spec = PreflightSpec(
        layout=layout, model=SMOLLM3.model_copy(update=SMALL if tiny else {}), rope_theta=5e4, vocab_size=128256,
        optimizer=Optimizer(), precision="fp32" if tiny else "bf16", sequence_length=4096,
    )  # fmt: skip
    run = PreflightRun(
        threads=1 if tiny else 4, layout=layout, device="cpu" if tiny else "auto", limits=Preflight(burn_in=5.0),
        mfu=0.5, cpu_flops=1e9 if tiny else 5e10, recovery_every=600.0, scratch=None,
    )  # fmt: skip
    name = f"{strategy}-{context}"
    return {
        "kind": "preflight", "name": name, "id": "0", "folder": str(folder / f"preflight-{gpus}-{name}"),
        "spec": spec.values(), "inputs": {}, "run": run.model_dump(),
    }  # fmt: skip
