"""How fast a training step is, beside transformers' own model class under the same loop.

    python benchmarks/train.py CASE [CASE ...] [--steps 8] [--warm 3] [--accumulate 4] [--profile]

A case is SHAPE:WHAT:LENGTH:DOCUMENTS:ROWS, such as 3b:bf16:4096:900:4
    SHAPE      1b (Llama-3.2-1B), 3b (SmolLM3-3B), toy (the toy recipe), tiny
    WHAT       fp32, bf16 or float8 (this trainer), or hf (transformers, bf16, compiled on a GPU, no document mask);
               with +selective or +full activation checkpointing
    LENGTH     tokens a sequence
    DOCUMENTS  mean length of documents (exponential, at least 16), 0 for one document a sequence
    ROWS       sequences a forward pass

A step is --accumulate forward and backward passes over random tokens, clipping and AdamW by the trainer's own loop with
its loader thread. The figure is the median step. MFU is (6N + 12 L d T) tokens/s over 989e12 (dense bf16 peak of an
H100 or H200); `masked` counts attention as causal within documents instead: 6N + 6 L d sum(l^2) / sum(l).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smolmake.model.checkpoint import CLASSES, to_transformers
from smolmake.model.config import ModelConfig, flops_per_token, masked_flops_per_token, parameter_count
from smolmake.model.decoder import Decoder
from smolmake.train.loop import Trainer
from smolmake.train.optimizer import make_optimizer
from smolmake.train.parallel import Group, join_group, leave_group

PEAK = 989e12
COMMON = {"rms_norm_eps": 1e-6, "initializer_range": 0.02, "tie_word_embeddings": True, "rope_theta": 5e4}
OPTIMIZER = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "clip_grad_norm": 1.0}
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
    recompute: str = "none"

    @classmethod
    def parse(cls, text: str) -> Case:
        shape, what, length, documents, rows = text.split(":")
        what, _, recompute = what.partition("+")
        return cls(shape, what, int(length), int(documents), int(rows), recompute or "none")


class RandomBatches:
    """Stands in for the mixture: random tokens in documents of exponential length; same batch for the same step."""

    def __init__(self, vocabulary: int, rows: int, length: int, mean: int) -> None:
        self.vocabulary, self.rows, self.length, self.mean = vocabulary, rows, length, mean

    def documents(self, row: int) -> list[int]:
        random, left, lengths = np.random.default_rng(row), self.length + 1, []
        while left > 0:
            lengths.append(min(left, max(16, int(random.exponential(self.mean)))) if self.mean else left)
            left -= lengths[-1]
        return lengths

    def batch(self, step: int, rows: range | None = None) -> tuple[Any, Any, Any]:
        wanted = [step * self.rows + row for row in (rows or range(self.rows))]
        tokens = np.stack([np.random.default_rng(n).integers(0, self.vocabulary, self.length + 1) for n in wanted])
        numbers = np.stack([np.repeat(np.arange(len(d)), d) for d in map(self.documents, wanted)])
        labels = np.where(numbers[:, 1:] == numbers[:, :-1], tokens[:, 1:], -100)
        return tokens[:, :-1].copy(), labels, numbers[:, :-1].copy()


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

    def loss(self, tokens: torch.Tensor, labels: torch.Tensor, documents: Any, z_loss: float) -> torch.Tensor:
        mask = None
        if not self.gpu:
            mask = (documents[:, :, None] == documents[:, None, :]).tril()[:, None]
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.gpu):
            return self.call(input_ids=tokens, attention_mask=mask, shift_labels=labels, labels=labels,
                             num_items_in_batch=1, use_cache=False).loss  # fmt: skip


def build(case: Case, group: Group) -> Any:
    config = ModelConfig(**SHAPES[case.shape], **COMMON, max_position_embeddings=case.length)
    torch.manual_seed(0)
    if case.what == "hf":
        return Theirs(config, group.device)
    with group.device:
        model = Decoder(config, case.what)  # type: ignore[arg-type]
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.02)
    model.recompute(case.recompute)
    if group.device.type == "cuda":
        model.compile_blocks()
    return model


def measure(case: Case, arguments: argparse.Namespace, group: Group) -> dict[str, Any]:
    gpu = group.device.type == "cuda"
    batch = case.rows * arguments.accumulate * group.world
    model = build(case, group)
    reader: Any = RandomBatches(model.config.vocab_size, batch, case.length, case.documents)
    spec = {"start": 0, "end": 10**9, "sequence_length": case.length, "global_batch": batch}
    spec["optimizer"] = {**OPTIMIZER, "no_weight_decay": ["embed_tokens"]}
    run = {"micro_batch": case.rows, "sequences_per_forward": case.length}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, None, reader, spec, run, Path(folder), group, "benchmark")  # type: ignore[arg-type]
        trainer.optimizer = make_optimizer(model, spec["optimizer"])
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        times, losses = [], []
        for step in range(arguments.warm + arguments.steps):
            began = time.perf_counter()
            losses.append(trainer.step(step, 1e-4)[0])
            times.append(time.perf_counter() - began)
        shares = profile(trainer, arguments.warm + arguments.steps) if arguments.profile else {}
        trainer.loader.shutdown(cancel_futures=True)
    kept = times[arguments.warm :]
    seconds = statistics.median(kept)
    rate = batch * case.length / seconds / group.world
    lengths = [length for row in range(64) for length in reader.documents(row)]
    return {
        "case": f"{case.shape} {case.what}{'' if case.recompute == 'none' else '+' + case.recompute} "
        f"{case.length} docs {case.documents or 'one'} mb {case.rows}x{arguments.accumulate}",
        "tokens_per_second": round(rate), "milliseconds": round(seconds * 1e3, 1),
        "mfu": round(rate * flops_per_token(model.config, case.length) / PEAK, 4),
        "mfu_masked": round(rate * masked_flops_per_token(model.config, lengths) / PEAK, 4),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if gpu else None,
        "first_step_s": round(times[0], 1), "spread": round((max(kept) - min(kept)) / seconds, 3),
        "first_loss": round(losses[0], 3), "last_loss": round(losses[-1], 3),
        "parameters": parameter_count(model.config), "shares": shares,
    }  # fmt: skip


def profile(trainer: Trainer, step: int) -> dict[str, float]:
    """The share of a step's GPU time by group of kernels; prints the largest kernels."""
    kind = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kind.CPU, kind.CUDA]) as record:
        began = time.perf_counter()
        trainer.step(step, 1e-4)
        wall = time.perf_counter() - began
    shares: dict[str, float] = {}
    kernels = [e for e in record.key_averages() if e.self_device_time_total > 0 and "aten::" not in e.key]
    kernels = [e for e in kernels if str(e.device_type).endswith("CUDA")]
    for event in kernels:
        name = event.key.lower()
        group = next((g for g, words in GROUPS.items() if any(word in name for word in words)), "other")
        shares[group] = shares.get(group, 0.0) + event.self_device_time_total / 1e6
    for event in sorted(kernels, key=lambda e: -e.self_device_time_total)[:28]:
        print(f"    {event.self_device_time_total / 1e3:8.2f} ms {event.count:6d}  {event.key[:110]}")
    shares["idle"] = max(0.0, wall - sum(shares.values()))
    return {name: round(seconds / wall, 3) for name, seconds in sorted(shares.items(), key=lambda x: -x[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm", type=int, default=3)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--strategy", default="ddp")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    group = join_group("auto", {"strategy": arguments.strategy})
    for text in arguments.cases:
        try:
            result = measure(Case.parse(text), arguments, group)
        except Exception as error:  # one case that fails, by memory say, leaves the others
            result = {"case": text, "error": f"{type(error).__name__}: {str(error)[:1500]}"}
        if group.first:
            print(json.dumps(result), flush=True)
            if arguments.out:
                with arguments.out.open("a") as file:
                    file.write(json.dumps(result) + "\n")
        gc.collect()
        torch._dynamo.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    leave_group(group)


if __name__ == "__main__":
    main()
