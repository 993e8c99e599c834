"""Whether bf16 and float8 learn as fp32 does: loss curves over the same batches from the same weights.

    python benchmarks/precision.py [--steps 400] [--layers 12] [--width 768]

Trains a small decoder on the bytes of Python's own library, by the trainer's loop, once per precision and twice in bf16
from other seeds, which shows how far curves differ by chance. Prints the mean loss of each quarter of the run.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smolmake.graph.pretrain import segment_run
from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.model.config import ModelConfig
from smolmake.recipe.pretraining import Optimizer, Precision
from smolmake.recipe.runtime import Layout, Runtime
from smolmake.train.parallel import init_parallel
from smolmake.train.segment import build_trainer, new_model


class LibraryBytes:
    """Sequences cut from Python's library, each file a document; batches are a function of the step."""

    def __init__(self, rows: int, length: int) -> None:
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        parts = [np.frombuffer(file.read_bytes(), dtype=np.uint8) for file in files]
        self.tokens = np.concatenate(parts).astype(np.int64)
        self.documents = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self.rows, self.length = rows, length

    def batch(self, step: int, rows: range | None = None) -> tuple[Any, Any, Any]:
        starts = np.random.default_rng(step).integers(0, len(self.tokens) - self.length - 1, self.rows)
        index = starts[:, None] + np.arange(self.length + 1)
        tokens, documents = self.tokens[index], self.documents[index]
        labels = np.where(documents[:, 1:] == documents[:, :-1], tokens[:, 1:], -100)
        return tokens[:, :-1].copy(), labels, documents[:, :-1].copy()


def curve(precision: Precision, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    parallel = init_parallel("auto", Layout())
    width = arguments.width
    config = ModelConfig(
        vocab_size=256, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=arguments.layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 128, no_rope_layer_interval=4, rms_norm_eps=1e-6,
        initializer_range=0.02, tie_word_embeddings=True, rope_theta=1e4, max_position_embeddings=arguments.length,
    )  # fmt: skip
    spec = SegmentSpec(
        start=0, end=10**9, stage_start=0, schedule=(), optimizer=Optimizer(), fresh_optimizer=True,
        precision=precision, z_loss=0.0, sequence_length=arguments.length, global_batch_size=arguments.rows,
        rope_theta=config.rope_theta, seed=seed,
    )  # fmt: skip
    run = segment_run(Runtime(micro_batch=arguments.rows), Layout())
    reader = LibraryBytes(arguments.rows, arguments.length)
    losses, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(new_model(config, spec), reader, spec, run, parallel, Path(folder), "precision")
        for step in range(arguments.steps):
            losses.append(trainer.step(step, 1e-3 * min(1.0, (step + 1) / 30)).loss)
        trainer.close()
    quarters = [round(float(np.mean(part)), 4) for part in np.array_split(np.array(losses), 4)]
    result = {
        "precision": precision,
        "seed": seed,
        "quarters": quarters,
        "seconds": round(time.perf_counter() - began, 1),
    }
    return result | {"last_tenth": round(float(np.mean(losses[-arguments.steps // 10 :])), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=16)
    runs = ["fp32:0", "bf16:0", "float8:0", "bf16:1", "bf16:2"]
    parser.add_argument("--runs", nargs="+", default=runs, help="PRECISION:SEED")
    arguments = parser.parse_args()
    for precision, seed in [tuple(text.split(":")) for text in arguments.runs]:
        print(json.dumps(curve(precision, int(seed), arguments)), flush=True)
        torch._dynamo.reset()


if __name__ == "__main__":
    main()
