"""Post-training on several devices: two processes train as one does, go on after a kill, and leave the same model."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.jobs import write_job
from helpers.models import decoder, save_model, write_tokenizer
from helpers.timeouts import WAIT
from helpers.training import ROOT, finish
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from smolmake.errors import UserError
from smolmake.execution.step import Spec
from smolmake.graph.specs.data import PathDataset
from smolmake.graph.specs.posttrain import AlignmentSpec, ConversationsSpec, PostTrainingRun, SupervisedSpec
from smolmake.monitoring.metrics import read_metrics
from smolmake.posttrain import hf_trainer as posttrain
from smolmake.posttrain.hf_trainer import WHOLE, RowOrder, last_whole_checkpoint, same_devices
from smolmake.posttrain.parallelism import Devices, deepspeed_settings, divide
from smolmake.recipe.posttraining import TrainingSettings
from smolmake.recipe.runtime import Layout

ROWS, BATCH = 22, 8
SETTINGS = TrainingSettings(
    learning_rate=1e-3, epochs=1.5, global_batch_size=BATCH, max_length=128, warmup_ratio=0.1, clip_grad_norm=0.2
)
needs_deepspeed = pytest.mark.needs("deepspeed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a parent checkpoint, conversations of different lengths and pairs."""
    place = tmp_path_factory.mktemp("posttrain")
    size = write_tokenizer(place / "tokenizer", ["What is 2 + 2? It is 4."])
    parent = place / "results" / "segment" / "parent"
    save_model(decoder(vocab_size=size, num_hidden_layers=2), parent / "checkpoint", place / "tokenizer", 0)
    template = (ROOT / "config" / "templates" / "smollm3-short.jinja").read_text()
    (parent / "checkpoint" / "chat_template.jinja").write_text(template)
    files = [f"checkpoint/{file.name}" for file in (parent / "checkpoint").iterdir()]
    finish(parent, files, {})
    question = [{"role": "user", "content": "What is 2 + 2?"}]
    answers = [[{"role": "assistant", "content": "It is 4. " * (1 + number % 5)}] for number in range(ROWS)]
    wrong = [{"role": "assistant", "content": "What?"}]
    write_rows(place / "chats.jsonl", [{"messages": question + answer} for answer in answers])
    write_rows(
        place / "pairs.jsonl", [{"chosen": question + answer, "rejected": question + wrong} for answer in answers]
    )
    return place


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def job(place: Path, kind: str, name: str, strategy: str = "ddp", **settings: Any) -> dict[str, Any]:
    file = place / ("chats.jsonl" if kind == "posttraining" else "pairs.jsonl")
    data = {"a": ConversationsSpec(files=PathDataset(path=str(file), format="auto", content=""))}
    training = SETTINGS.model_copy(update=settings)
    spec: Spec = AlignmentSpec(training=training, seed=3, beta=0.5, data=data)
    if kind == "posttraining":
        template = (ROOT / "config" / "templates" / "smollm3-short.jinja").read_text()
        spec = SupervisedSpec(training=training, seed=3, loss="assistant", packing="none", template=template, data=data)
    return {
        "kind": kind, "name": name, "id": "0", "folder": f"results/{kind}/{name}", "spec": spec.model_dump(mode="json"),
        "inputs": {"parent": "results/segment/parent/manifest.json"},
        "run": {"layout": {"strategy": strategy, "micro_batch": 2}, "device": "cpu", "micro_batch": 16},
    }  # fmt: skip


class Scripts:
    """The post-training scripts over a folder, started by subprocess_runner.py."""

    def __init__(self, place: Path) -> None:
        self.place, self.log = place, place / "log"
        self.server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/helpers/subprocess_runner.py")],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("a"), text=True,
        )  # fmt: skip

    def start(self, job: dict[str, Any], processes: int) -> list[int]:
        """Gives the process ids."""
        script = {"posttraining": "posttraining.py", "alignment": "alignment.py"}[job["kind"]]
        path = ROOT / "workflow" / "scripts" / script
        asked = {"script": str(path), "job": write_job(self.place, job), "processes": processes}
        self.log.write_text("")
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def exit_codes(self) -> list[int]:
        return json.loads(self.server.stdout.readline())

    def run(self, job: dict[str, Any], processes: int) -> Path:
        self.start(job, processes)
        assert self.exit_codes() == [0] * processes, self.log.read_text()
        folder = self.place / job["folder"]
        assert (folder / "manifest.json").exists() and not (folder / "recovery").exists()
        return folder


def losses(folder: Path) -> list[float]:
    lines = read_metrics(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(len(lines)))
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def scripts(place: Path) -> Iterator[Scripts]:
    started = Scripts(place)
    yield started
    started.server.stdin.close()
    started.server.wait(timeout=WAIT)


@pytest.fixture(scope="module")
def alone(place: Path, scripts: Scripts) -> dict[str, Path]:
    """What one process makes of the same rows."""
    return {kind: scripts.run(job(place, kind, "alone"), 1) for kind in ("posttraining", "alignment")}


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        ("posttraining", "ddp"),
        pytest.param("posttraining", "zero3", marks=[pytest.mark.slow, needs_deepspeed]),
        pytest.param("alignment", "zero3", marks=needs_deepspeed),
        pytest.param("alignment", "ddp", marks=pytest.mark.slow),
        pytest.param("posttraining", "zero1", marks=[pytest.mark.slow, needs_deepspeed]),
        pytest.param("alignment", "zero2", marks=[pytest.mark.slow, needs_deepspeed]),
    ],
)
def test_two_processes_train_as_one(
    place: Path, scripts: Scripts, alone: dict[str, Path], kind: str, strategy: str
) -> None:
    folder = scripts.run(job(place, kind, strategy, strategy), 2)
    assert len(losses(folder)) == math.ceil(1.5 * ROWS / BATCH)
    assert losses(folder) == pytest.approx(losses(alone[kind]), abs=5e-6)
    weights, expected = (load_file(f / "checkpoint" / "model.safetensors") for f in (folder, alone[kind]))
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        assert tensor.dtype == expected[name].dtype == torch.float32
        torch.testing.assert_close(tensor, expected[name], atol=2e-4, rtol=0)
    facts = [json.loads((f / "manifest.json").read_text())["facts"] for f in (folder, alone[kind])]
    assert facts[0] == facts[1]
    model = AutoModelForCausalLM.from_pretrained(folder / "checkpoint")
    assert model.num_parameters() == facts[0]["parameters"]


@pytest.fixture(scope="module")
def undisturbed(place: Path, scripts: Scripts) -> Path:
    return scripts.run(job(place, "posttraining", "undisturbed", epochs=6), 1)


@pytest.mark.parametrize(
    ("strategy", "after"), [pytest.param("zero3", 2, marks=needs_deepspeed), ("ddp", 1)]
)  # fmt: skip
def test_a_killed_job_goes_on(place: Path, scripts: Scripts, undisturbed: Path, strategy: str, after: int) -> None:
    long = job(place, "posttraining", f"killed-{strategy}", strategy, epochs=6)
    folder = place / long["folder"]
    children = scripts.start(long, 2)
    limit = time.monotonic() + WAIT
    while last_whole_checkpoint(folder / "recovery") is None:
        assert time.monotonic() < limit, scripts.log.read_text()
        time.sleep(0.005)
    for child in children:
        os.kill(child, signal.SIGKILL)
    assert scripts.exit_codes() == [-signal.SIGKILL] * 2 and not (folder / "manifest.json").exists()
    before = losses(folder)
    scripts.run(long, after)
    assert losses(folder)[: len(before)] == pytest.approx(before, abs=5e-6)
    assert losses(folder) == pytest.approx(losses(undisturbed), abs=5e-5)


def run_of(layout: dict[str, Any], micro_batch: int = 16) -> PostTrainingRun:
    return PostTrainingRun(layout=Layout(**layout), device="cpu", micro_batch=micro_batch)


def test_a_batch_is_divided_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    for batch, world, layout, micro, expected in [
        (24, 1, {}, 16, (12, 2)),  # the largest micro-batch that divides it
        (7, 1, {}, 4, (1, 7)),
        (32, 4, {"gpus_per_node": 4}, 16, (8, 1)),
        (128, 64, {"nodes": 8, "gpus_per_node": 8, "micro_batch": 1}, 16, (1, 2)),
    ]:
        monkeypatch.setenv("WORLD_SIZE", str(world))
        found = divide(batch, run_of(layout, micro))
        assert (found.per_device, found.accumulation) == expected
        assert found.per_device * found.accumulation * world == batch


@pytest.mark.parametrize(
    ("world", "layout", "words"),
    [
        (3, {}, "8 rows does not divide over 3 devices"),
        (2, {"micro_batch": 3}, "with 3 rows"),
        (2, {"gpus_per_node": 4}, "4 devices and 2 processes"),
        (2, {"strategy": "hsdp"}, "no strategy hsdp"),
        (2, {"strategy": "fsdp"}, "needs GPUs"),
        (2, {"context_parallel": 2}, "whole rows"),
    ],
)
def test_devices_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, world: int, layout: dict[str, Any], words: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(world))
    with pytest.raises(UserError, match=words) as caught:
        divide(8, run_of(layout))
    assert caught.value.remedy and len(str(caught.value).splitlines()) <= 5


def test_a_job_whose_batch_does_not_divide_tells_it_on_one_screen(place: Path, scripts: Scripts) -> None:
    bad = job(place, "posttraining", "bad", global_batch_size=9)
    scripts.start(bad, 2)
    assert scripts.exit_codes() == [1, 1]
    told = scripts.log.read_text()
    assert "a batch of 9 rows does not divide over 2 devices" in told and "Traceback" not in told
    assert not (place / bad["folder"] / "recovery").exists()


def test_rows_come_in_full_passes() -> None:
    order = list(RowOrder(10, 35, seed=1))
    passes = [order[first : first + 10] for first in range(0, 30, 10)]
    assert len(order) == len(RowOrder(10, 35, seed=1)) == 35
    assert all(sorted(part) == list(range(10)) for part in passes)
    assert len({tuple(part) for part in passes}) == 3 and len(set(order[30:])) == 5
    assert order != list(RowOrder(10, 35, seed=2)) and order[:20] == list(RowOrder(10, 20, seed=1))


@pytest.mark.parametrize(
    ("was", "now", "fits"),
    [
        (("ddp", 2), ("ddp", 4), True),
        (("ddp", 2), ("ddp", 1), True),
        (("zero3", 2), ("zero3", 2), True),
        (("zero3", 2), ("zero3", 4), False),
        (("zero3", 2), ("zero2", 2), False),
        (("ddp", 1), ("zero1", 2), False),
        (("fsdp", 4), ("ddp", 1), False),
    ],
)
def test_sharded_states_go_on_where_they_were_written(
    tmp_path: Path, was: tuple[str, int], now: tuple[str, int], fits: bool
) -> None:
    checkpoint = tmp_path / "recovery" / "checkpoint-12"
    checkpoint.mkdir(parents=True)
    (checkpoint / WHOLE).write_text(json.dumps({"strategy": was[0], "devices": was[1]}))
    devices = Devices(now[1], now[0], True, 1, 1)
    if fits:
        assert same_devices(checkpoint, devices) == 12
        return
    with pytest.raises(UserError, match=f"begun on {was[1]} devices with {was[0]}") as caught:
        same_devices(checkpoint, devices)
    assert str(checkpoint.parent) in str(caught.value.remedy) and len(str(caught.value).splitlines()) <= 5


def test_deepspeed_is_told_the_recipes_numbers() -> None:
    told = deepspeed_settings(Devices(8, "zero2", False, 2, 4), 0.2)
    assert told["zero_optimization"]["stage"] == 2 and told["gradient_clipping"] == 0.2
    assert (told["train_micro_batch_size_per_gpu"], told["gradient_accumulation_steps"]) == (2, 4)
    assert told["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"} and '"auto"' not in json.dumps(told)


def test_flash_attention_is_for_training_on_gpus_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preference answers are generated in fp32, which FlashAttention does not take."""
    monkeypatch.setattr(posttrain, "has_flash_attention", lambda: True)
    monkeypatch.setattr(posttrain, "is_flash_attn_4_available", lambda: True)
    on_gpu = Devices(world=1, strategy="ddp", on_cpu=False, per_device=1, accumulation=1)
    assert posttrain.attention(on_gpu) == "flash_attention_4"
    assert posttrain.attention(replace(on_gpu, on_cpu=True)) == "sdpa"
    model, _ = posttrain.load_for_training(place / "results/segment/parent/checkpoint", None)
    assert model.config._attn_implementation == "sdpa"
