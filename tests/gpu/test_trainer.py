"""Training on a GPU: noise scale, roll-back and recovery change no batch and, but for rounding, no loss.

On CPUs the same is asserted to the bit (tests/unit). `SMOLMAKE_TEST_DEVICE=cpu` tries these tests without a GPU.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolmake.graph.pretrain import segment_run
from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.model.config import ModelConfig
from smolmake.monitoring.events import read_events
from smolmake.monitoring.metrics import read_metrics
from smolmake.recipe.pretraining import Guard, Optimizer, RollBack
from smolmake.recipe.runtime import Layout, Runtime
from smolmake.recipe.schedule import SchedulePiece
from smolmake.train.parallel import ParallelContext
from smolmake.train.segment import build_trainer, new_model
from smolmake.train.trainer import Trainer

ROOT = Path(__file__).parents[2]
DEVICE = os.environ.get("SMOLMAKE_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"),
]
LENGTH, BATCH, STEPS, VOCABULARY = 256, 8, 24, 512
CLOSE = 2e-2 if DEVICE == "cuda" else 0.0  # of a loss; bf16 and sums in another order
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "no_rope_layer_interval": 2, "rms_norm_eps": 1e-6,
    "initializer_range": 0.02, "tie_word_embeddings": True, "rope_theta": 1e4, "max_position_embeddings": LENGTH,
}  # fmt: skip
SCHEDULE = SchedulePiece(shape="linear", start=0, start_lr=3e-3, end=99, end_lr=3e-3)


class Counting:
    """Rows that count up from somewhere, which is soon learnt, and noise at the steps of `poison`; keeps batches."""

    def __init__(self, poison: range = range(0)) -> None:
        self.poison, self.batches = poison, dict[int, bytes]()

    def batch(self, step: int, rows: range | None = None) -> tuple[Any, Any, Any]:
        random = np.random.default_rng(step)
        if step in self.poison:
            tokens = random.integers(0, VOCABULARY, (BATCH, LENGTH + 1))
        else:
            tokens = (random.integers(0, 64, (BATCH, 1)) + np.arange(LENGTH + 1)) % 64
        documents = np.repeat((np.arange(LENGTH) // 100)[None], BATCH, 0)
        self.batches[step] = tokens.tobytes()
        return tokens[:, :-1].copy(), tokens[:, 1:].copy(), documents


def trainer(folder: Path, reader: Counting, end: int = STEPS, guard: Guard | None = None, **run: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    spec = SegmentSpec(
        start=0, end=end, stage_start=0, schedule=(SCHEDULE,), optimizer=Optimizer(), fresh_optimizer=True,
        precision="bf16" if DEVICE == "cuda" else "fp32", z_loss=0.0, guard=guard, sequence_length=LENGTH,
        global_batch_size=BATCH, rope_theta=1e4, seed=0,
    )  # fmt: skip
    how = segment_run(Runtime(**{"micro_batch": 2, "recovery_every": 1e9, **run}), Layout())
    model = new_model(ModelConfig(**SHAPE), spec)
    return build_trainer(model, reader, spec, how, ParallelContext(torch.device(DEVICE)), folder, "test")


def lines(folder: Path) -> list[dict[str, Any]]:
    found = read_metrics(folder / "metrics.jsonl")
    assert [line["step"] for line in found] == list(range(len(found)))
    return found


def losses(folder: Path) -> list[float | None]:
    return [line["loss"] for line in lines(folder)]


def trained(folder: Path, reader: Counting, **more: Any) -> Trainer:
    found = trainer(folder, reader, **more)
    found.train()
    return found


def close(found: list[float | None], expected: list[float | None]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        if mine is None or theirs is None:  # a dropped step
            assert mine is theirs
        else:
            assert mine == pytest.approx(theirs, rel=CLOSE, abs=CLOSE)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counting]:
    folder, reader = tmp_path_factory.mktemp("undisturbed"), Counting()
    trained(folder, reader)
    curve = losses(folder)
    assert curve[-1] < 0.5 * curve[0]  # type: ignore[operator]
    return folder, reader


def test_measuring_the_noise_scale_changes_no_loss(tmp_path: Path, undisturbed: tuple[Path, Counting]) -> None:
    reader = Counting()
    trained(tmp_path / "noise", reader, noise_scale_every=2)
    close(losses(tmp_path / "noise"), losses(undisturbed[0]))
    assert reader.batches == undisturbed[1].batches
    measured = [line for line in lines(tmp_path / "noise") if "gradient_variance" in line]
    assert [line["step"] for line in measured] == list(range(0, STEPS, 2))
    assert all(math.isfinite(line["gradient_square"]) and line["gradient_variance"] > 0 for line in measured)
    assert all(line["sequences"] == BATCH for line in measured)


def test_saves_in_the_background_change_no_loss_and_are_resumed(
    tmp_path: Path, undisturbed: tuple[Path, Counting]
) -> None:
    folder = tmp_path / "often"
    first = trained(folder, Counting(), end=STEPS // 2, recovery_every=1e-9)
    assert not first.recovery.busy and any((folder / "recovery").glob("step-*"))
    reader = Counting()
    trained(folder, reader, recovery_every=1e-9)
    close(losses(folder), losses(undisturbed[0]))
    assert all(batch == undisturbed[1].batches[step] for step, batch in reader.batches.items())
    resumed = [line for line in read_events(folder) if line["kind"] == "resumed"]
    assert len(resumed) == 1 and 0 < min(reader.batches) == resumed[0]["step"] <= STEPS // 2


def test_a_spike_is_rolled_back_to_the_curve_without_its_batches(tmp_path: Path) -> None:
    settings = RollBack(loss_above=1.5, window=4, steps_in_a_row=2, drop_before=1, max_rollbacks=3)
    guard = Guard(skip_above=1e9, roll_back=settings)
    poison = range(14, 16)
    found = trained(tmp_path / "poisoned", Counting(poison), guard=guard, recovery_every=1e-9)
    drops = found.spikes.drops
    assert drops and set(poison) <= {step for drop in drops for step in range(drop.first, drop.last + 1)}
    clean = trainer(tmp_path / "clean", Counting(), guard=guard)
    clean.spikes.drops = list(drops)
    clean.train()
    close(losses(tmp_path / "poisoned"), losses(tmp_path / "clean"))
    told = [line for line in read_events(tmp_path / "poisoned") if line["kind"] == "dropped"]
    assert [(line["first"], line["last"]) for line in told] == [(drop.first, drop.last) for drop in drops]


@pytest.mark.skipif(DEVICE == "cuda" and torch.cuda.device_count() < 2, reason="there are no two GPUs")
def test_context_parallelism_has_one_gpus_loss_and_gradients() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "tests/helpers/run_context_parallel.py")
    done = subprocess.run([*command, script, DEVICE], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loss"] < (5e-3 if DEVICE == "cuda" else 2e-6)
    worst = max(found["gradients"], key=found["gradients"].get)
    assert found["gradients"][worst] < (5e-2 if DEVICE == "cuda" else 1e-4), (worst, found["gradients"][worst])
