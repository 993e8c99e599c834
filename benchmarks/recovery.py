"""What a recovery checkpoint costs the training: seconds lost a save, written at once and in the background.

Usage: PYTHONPATH=src python benchmarks/recovery.py [--millions 50] [--steps 30]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from smolmake.train.parallel import ParallelContext
from smolmake.train.recovery.checkpoint import Recovery


def step(weights: torch.Tensor, inputs: torch.Tensor) -> None:
    """Arithmetic that stands for an optimizer step."""
    for _ in range(8):
        inputs @ weights


def seconds_of_steps(steps: int, every: int, at_once: bool, tensors: dict[str, torch.Tensor]) -> list[float]:
    weights, inputs = torch.randn(1024, 1024), torch.randn(1024, 1024)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        recovery = Recovery(Path(folder), ParallelContext(torch.device("cpu")))
        recovery.save(0, tensors)  # the first one allocates the copies
        recovery.wait()
        seconds = []
        for number in range(1, steps + 1):
            began = time.perf_counter()
            step(weights, inputs)
            if every and number % every == 0:
                recovery.save(number, tensors)
                if at_once:
                    recovery.wait()
            seconds.append(time.perf_counter() - began)
        recovery.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=50, help="parameters; the state is three times as many numbers")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tensors = {f"{part}/w": torch.randn(asked.millions * 1_000_000) for part in ("model", "exp_avg", "exp_avg_sq")}
    gigabytes = sum(tensor.nbytes for tensor in tensors.values()) / 1e9
    plain = statistics.median(seconds_of_steps(asked.steps, 0, False, tensors)) * asked.steps
    for name, at_once in (("at once", True), ("in the background", False)):
        lost = sum(seconds_of_steps(asked.steps, asked.every, at_once, tensors)) - plain
        print(f"{name}: {lost / (asked.steps // asked.every):.2f} s lost a save of {gigabytes:.2f} GB")


if __name__ == "__main__":
    main()
