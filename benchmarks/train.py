"""How fast a training step is, beside transformers' own model class under the same loop.

    python benchmarks/train.py CASE [CASE ...] [--steps 8] [--warm 3] [--accumulate 4] [--profile]

A case is SHAPE:WHAT:LENGTH:DOCUMENTS:ROWS[:STRATEGY[:CONTEXT]], such as 3b:bf16:4096:900:4 or 3b:bf16:4096:900:4:fsdp
    SHAPE      1b (Llama-3.2-1B), 3b (SmolLM3-3B), toy (the toy recipe), tiny
    WHAT       fp32, bf16 or float8 (this trainer), or hf (transformers, bf16, compiled on a GPU, no document mask);
               with +selective or +full activation checkpointing
    LENGTH     tokens a sequence
    DOCUMENTS  mean length of documents (exponential, at least 16), 0 for one document a sequence
    ROWS       sequences a forward pass
    STRATEGY   under torchrun: ddp, fsdp, hsdp-N (N groups of copies), zero1, zero2
    CONTEXT    devices that share a sequence

A step is --accumulate forward and backward passes over random tokens, clipping and AdamW by the trainer's own loop with
its loader thread. The figure is the median step. MFU is (6N + 12 L d T) tokens/s over 989e12 (dense bf16 peak of an
H100 or H200); `masked` counts attention as causal within documents instead: 6N + 6 L d sum(l^2) / sum(l).
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smolmake.graph.pretrain import segment_run
from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.model.config import ModelConfig
from smolmake.model.conversion import CLASSES, to_transformers
from smolmake.model.counts import count_parameters, flops_per_token
from smolmake.model.decoder import Decoder
from smolmake.preflight.parity import RandomBatches
from smolmake.recipe.pretraining import Optimizer
from smolmake.recipe.runtime import Layout, Runtime
from smolmake.train.parallel import ParallelContext, destroy_parallel, init_parallel, with_layout
from smolmake.train.recovery.checkpoint import Recovery
from smolmake.train.segment import build_trainer
from smolmake.train.trainer import Trainer

PEAK = 989e12
COMMON = {"rms_norm_eps": 1e-6, "initializer_range": 0.02, "tie_word_embeddings": True, "rope_theta": 5e4}
SHAPES: dict[str, dict[str, Any]] = {
    "3b": {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
           "num_attention_heads": 16, "num_key_value_heads": 4, "no_rope_layer_interval": 4},
    "1b": {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8, "no_rope_layer_interval": 0, "family": "llama"},
    "toy": {"vocab_size": 2048, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "no_rope_layer_interval": 4},
    "tiny": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "no_rope_layer_interval": 2},
}  # fmt: skip
GROUPS = {
    "attention": ("flex", "flash", "fmha", "cudnn_generated", "sdpa", "attention"),
    "matrix products": ("gemm", "nvjet", "cutlass", "xmma", "addmm", "::mm"),
    "optimizer": ("adam", "multi_tensor", "foreach", "lpnorm"),
    "other fused": ("triton",),
    "communication": ("nccl",),
}


@dataclass
class Case:
    shape: str
    what: str
    length: int
    documents: int
    rows: int
    strategy: str = "ddp"
    context: int = 1
    recompute: str = "none"

    @classmethod
    def parse(cls, text: str) -> Case:
        parts = text.split(":")
        shape, what, length, documents, rows, strategy, context = parts + ["ddp", "1"][len(parts) - 5 :]
        what, _, recompute = what.partition("+")
        return cls(shape, what, int(length), int(documents), int(rows), strategy, int(context), recompute or "none")

    @property
    def layout(self) -> Layout:
        strategy, _, nodes = self.strategy.partition("-")
        return Layout(
            strategy=strategy, nodes=int(nodes or 1), context_parallel=self.context,
            activation_checkpointing=self.recompute,
        )  # fmt: skip


class Theirs(torch.nn.Module):
    """transformers' class behind the interface that the loop uses: bf16 by autocast, as transformers' Trainer does."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        super().__init__()
        import transformers

        values = to_transformers(config, 0)
        family = transformers.AutoConfig.for_model(**values)
        with device:
            self.inner = getattr(transformers, CLASSES[config.family])(family)
        self.inner.config.use_cache = False
        self.config, self.gpu, self.dtype = config, device.type == "cuda", torch.float32
        self.call = torch.compile(self.inner, dynamic=False) if self.gpu else self.inner

    def set_activation_checkpointing(self, what: str) -> None:
        """It keeps all activations."""

    def compile_blocks(self) -> None:
        """It is compiled as a whole."""

    def loss(self, tokens: torch.Tensor, labels: torch.Tensor, documents: Any, z_loss: float) -> torch.Tensor:
        mask = None
        if not self.gpu:
            mask = (documents[:, :, None] == documents[:, None, :]).tril()[:, None]
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.gpu):
            return self.call(input_ids=tokens, attention_mask=mask, shift_labels=labels, labels=labels,
                             num_items_in_batch=1, use_cache=False).loss  # fmt: skip


def build(case: Case, parallel: ParallelContext) -> Any:
    config = ModelConfig(**SHAPES[case.shape], **COMMON, max_position_embeddings=case.length)
    torch.manual_seed(0)
    if case.what == "hf":
        return Theirs(config, parallel.device)
    with parallel.device:
        model = Decoder(config, case.what)  # type: ignore[arg-type]
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.02)
    return model


def measure(case: Case, arguments: argparse.Namespace, parallel: ParallelContext) -> dict[str, Any]:
    gpu = parallel.device.type == "cuda"
    parallel = with_layout(parallel, case.layout)
    batch = case.rows * arguments.accumulate * parallel.world_size // parallel.cp_size
    model = build(case, parallel)
    reader = RandomBatches(batch, case.length, case.documents, model.config.vocab_size)
    spec = SegmentSpec(
        start=0, end=10**9, stage_start=0, schedule=(), optimizer=Optimizer(), fresh_optimizer=True,
        precision="bf16" if case.what == "hf" else case.what, z_loss=0.0, sequence_length=case.length,
        global_batch_size=batch, rope_theta=model.config.rope_theta,
    )  # fmt: skip
    run = segment_run(Runtime(micro_batch=case.rows), case.layout)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(model, reader, spec, run, parallel, Path(folder), "benchmark")
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        times, losses = [], []
        for step in range(arguments.warm + arguments.steps):
            began = time.perf_counter()
            losses.append(trainer.step(step, 1e-4).loss)
            times.append(time.perf_counter() - began)
        kept, done = times[arguments.warm :], arguments.warm + arguments.steps
        seconds = statistics.median(kept)
        shares = profile(trainer, done) if arguments.profile else {}
        saved = save_and_restore(trainer, Path(arguments.save), done + 1, seconds) if arguments.save else {}
        trainer.close()
    rate = batch * case.length / seconds / parallel.world_size
    # A token sees half of its document on average, and a document of n tokens has n of them.
    lengths = [length for row in range(64) for length in reader.lengths(row)]
    seen = sum(length**2 for length in lengths) / sum(lengths) / 2
    return {
        "case": f"{case.shape} {case.what}{'' if case.recompute == 'none' else '+' + case.recompute} "
        f"{case.length} docs {case.documents or 'one'} mb {case.rows}x{arguments.accumulate}",
        "gpus": parallel.world_size, "strategy": case.strategy, "context": case.context,
        "tokens_per_second": round(rate), "milliseconds": round(seconds * 1e3, 1),
        "mfu": round(rate * flops_per_token(model.config.shape, case.length) / PEAK, 4),
        "mfu_masked": round(rate * flops_per_token(model.config.shape, seen) / PEAK, 4),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if gpu else None,
        "first_step_s": round(times[0], 1), "spread": round((max(kept) - min(kept)) / seconds, 3),
        "first_loss": round(losses[0], 3), "last_loss": round(losses[-1], 3),
        "parameters": count_parameters(model.config.shape).total, "shares": shares, **saved,
    }  # fmt: skip


def save_and_restore(trainer: Trainer, folder: Path, step: int, usual: float) -> dict[str, float]:
    """What a recovery checkpoint costs, in seconds: of waiting, until it is whole on the disk, of training, to read it.

    Training goes on while it is written; lost is what the steps meanwhile, the wait included, take longer than usual.
    The first save makes the copies in host memory, and is not counted.
    """
    parameters = {name: parameter.detach() for name, parameter in trainer.model.named_parameters()}
    recovery, whole = Recovery(folder, trainer.parallel), []
    recovery.save(step, trainer.state())
    recovery.wait()
    began = time.perf_counter()
    recovery.save(step + 1, trainer.state())
    if recovery.under_way is not None:
        recovery.under_way.add_done_callback(lambda _: whole.append(time.perf_counter() - began))
    waiting = time.perf_counter() - began
    steps = 0
    while steps == 0 or any(trainer.parallel.any(recovery.busy)):
        trainer.step(step + steps, 1e-4)
        steps += 1
    lost = time.perf_counter() - began - steps * usual
    recovery.wait()
    reading = time.perf_counter()
    recovery.load(parameters)
    reading = time.perf_counter() - reading
    size = sum(file.stat().st_size for file in (folder / f"step-{step + 1:09d}").rglob("*")) / 1e9
    trainer.parallel.barrier()
    if trainer.parallel.is_main:
        shutil.rmtree(folder)
    return {
        "save_wait_s": round(waiting, 3), "save_s": round(whole[0], 2) if whole else 0.0,
        "save_gb": round(size, 3), "save_gb_s": round(size / whole[0], 3) if whole else 0.0,
        "save_lost_s": round(lost, 3), "save_steps": steps, "load_s": round(reading, 2),
    }  # fmt: skip


def profile(trainer: Trainer, step: int) -> dict[str, float]:
    """The share of a step's time by group of GPU kernels; prints the largest kernels.

    Communication runs beside the arithmetic, so the shares may sum to more than 1; `communication alone` is the share
    in which nothing else runs: what it costs.
    """
    kind = torch.profiler.ProfilerActivity
    gpu = trainer.parallel.device.type == "cuda"
    with torch.profiler.profile(activities=[kind.CPU, kind.CUDA] if gpu else [kind.CPU]) as record:
        began = time.perf_counter()
        trainer.step(step, 1e-4)
        wall = time.perf_counter() - began
    spans: dict[str, list[tuple[float, float]]] = {}
    for event in record.events():
        if is_kernel(event, event.name):
            spans.setdefault(group_of(event.name), []).append(
                (event.time_range.start / 1e6, event.time_range.end / 1e6)
            )
    kernels = [e for e in record.key_averages() if is_kernel(e, e.key)]
    for event in sorted(kernels, key=lambda e: -e.self_device_time_total)[: 28 if trainer.parallel.is_main else 0]:
        print(f"    {event.self_device_time_total / 1e3:8.2f} ms {event.count:6d}  {event.key[:110]}")
    shares = {name: sum(end - start for start, end in found) for name, found in spans.items()}
    busy = covered([span for found in spans.values() for span in found])
    computing = covered([span for name, found in spans.items() if name != "communication" for span in found])
    if spans:
        shares |= {"idle": max(0.0, wall - busy), "communication alone": busy - computing}
    return {name: round(seconds / wall, 3) for name, seconds in sorted(shares.items(), key=lambda x: -x[1])}


def is_kernel(event: Any, name: str) -> bool:
    """Whether it is work of the GPU: not a range that FSDP or NCCL marks on its timeline."""
    return str(event.device_type).endswith("CUDA") and not event.is_user_annotation and "aten::" not in name


def group_of(kernel: str) -> str:
    return next((group for group, words in GROUPS.items() if any(word in kernel.lower() for word in words)), "other")


def covered(spans: list[tuple[float, float]]) -> float:
    """How long at least one of the spans (start, end) lasts."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm", type=int, default=3)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--save", default="", help="a folder: also time a recovery checkpoint there, and reading it")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    parallel = init_parallel(arguments.device, Layout())
    for text in arguments.cases:
        try:
            result = {"asked": text, **measure(Case.parse(text), arguments, parallel)}
        except Exception as error:  # one case that fails, by memory say, leaves the others
            result = {
                "asked": text,
                "case": text,
                "gpus": parallel.world_size,
                "error": f"{type(error).__name__}: {str(error)[:1500]}",
            }
        if parallel.is_main:
            print(json.dumps(result), flush=True)
            if arguments.out:
                with arguments.out.open("a") as file:
                    file.write(json.dumps(result) + "\n")
        gc.collect()
        torch._dynamo.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    destroy_parallel(parallel)


if __name__ == "__main__":
    main()
