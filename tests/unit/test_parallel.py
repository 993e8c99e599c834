"""Several processes train as one does: same batches and first weights, curves within bounds; any resumes any."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import SHAPE
from safetensors.torch import load_file
from training import ROOT, curve, finished, make_artefacts, segment, wait_for_lines

from smolmake.errors import UserError
from smolmake.files import canonical_json
from smolmake.model.config import ModelConfig
from smolmake.recipe.machine import Layout
from smolmake.recipe.training import Optimizer
from smolmake.train import preflight
from smolmake.train.parallel import Group, check_layout

STRATEGIES = ["ddp", "fsdp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hsdp", "zero1", "zero2"))]
MODEL = {key: SHAPE[key] for key in SHAPE if key not in ("vocab_size", "max_position_embeddings")}


def torchrun(processes: int, script: str, job: dict[str, Any], place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
            str(ROOT / "workflow" / "scripts" / script), canonical_json(job),
        ],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip


def drill(place: Path, processes: int, layout: dict[str, Any], **spec: Any) -> dict[str, Any]:
    optimizer = Optimizer(**spec.pop("optimizer", {})).used()
    job = {
        "out": "drill.json",
        "model": {**MODEL, "initializer_range": 0.02},
        "spec": {"global_batch": 8, "optimizer": optimizer, "precision": "fp32", **spec},
        "run": {"threads": 1, "device": "cpu", "layout": layout, "micro_batch": 2, "sequences_per_forward": 64},
    }
    process = torchrun(processes, "preflight.py", job, place)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    result: dict[str, Any] = json.loads((place / "drill.json").read_text())
    return result


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_train_as_one(tmp_path: Path, strategy: str) -> None:
    result = drill(tmp_path, 2, {"strategy": strategy})
    assert result["processes"] == 2
    assert result["loss"] < 2e-6 and result["weights"] < 1e-3
    assert len(set(result["alone"])) == 6  # the weights moved


@pytest.mark.slow
def test_four_processes_in_two_nodes_train_as_one(tmp_path: Path) -> None:
    result = drill(tmp_path, 4, {"strategy": "hsdp", "nodes": 2}, precision="bf16")
    assert result["processes"] == 4 and result["loss"] < 5e-3


@pytest.mark.slow
def test_muon_trains_in_copies(tmp_path: Path) -> None:
    assert drill(tmp_path, 2, {"strategy": "ddp"}, optimizer={"name": "muon"})["loss"] < 2e-6


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    make_artefacts(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    return finished(place, segment(0, 16, name="undisturbed", micro_batch=2))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("fsdp", "alone"),
        pytest.param("alone", "fsdp", marks=pytest.mark.slow),
        pytest.param("fsdp", "ddp", marks=pytest.mark.slow),
    ],
)
def test_another_number_of_processes_goes_on(place: Path, undisturbed: Path, before: str, after: str) -> None:
    name = f"{before}-{after}"
    for strategy in (before, after):
        job = segment(
            0, 16, name=name, micro_batch=2, recovery_every=1e-9, layout={"strategy": strategy}, milestones=[4, 12]
        )
        process = torchrun(1 if strategy == "alone" else 2, "train_segment.py", job, place)
        folder = place / job["folder"]
        if strategy == before:
            wait_for_lines(folder / "metrics.jsonl", 6, process)
            process.terminate()
            process.communicate(timeout=120)
            assert not (folder / "manifest.json").exists() and any((folder / "recovery").iterdir())
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0 and "resuming at step" in errors, errors
    assert [step for step, _, _ in curve(folder)] == list(range(16))
    for mine, reference in zip(curve(folder), curve(undisturbed), strict=True):
        assert mine[1] == pytest.approx(reference[1], rel=1e-5)
    for file in ("model.safetensors", "optimizer.safetensors"):
        found, expected = (load_file(where / "checkpoint" / file) for where in (folder, undisturbed))
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-2, atol=1e-4, msg=key)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {f"milestones/step-{step}/model.safetensors" for step in (4, 12)} <= set(manifest["payload"])


@pytest.mark.parametrize(
    ("world", "layout", "spec", "told"),
    [
        (3, {}, {}, "divide"),
        (2, {"nodes": 1, "gpus_per_node": 8}, {}, "8 devices and 2 processes"),
        (4, {"strategy": "hsdp", "nodes": 3, "gpus_per_node": 0}, {}, "nodes"),
        (2, {"strategy": "fsdp"}, {"optimizer": {"name": "muon"}}, "muon"),
        (2, {"context_parallel": 2}, {}, "context_parallel 2"),
        (1, {}, {"precision": "float8"}, "float8"),
        (2, {}, {"batches": [[0, 3, 0]]}, "batch of 3"),
    ],
    ids=lambda value: "",
)
def test_a_layout_that_cannot_work_is_refused(
    world: int, layout: dict[str, Any], spec: dict[str, Any], told: str
) -> None:
    group = Group(torch.device("cpu"), 0, world, layout)
    config = ModelConfig(**{**SHAPE})
    with pytest.raises(UserError) as caught:
        check_layout(group, {"global_batch": 8, "optimizer": {}, **spec}, config)
    assert told in str(caught.value) and caught.value.remedy


def test_the_drill_tells_a_layout_that_trains_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"global_batch": 8, "optimizer": Optimizer().used(), "precision": "fp32"}
    run = {"micro_batch": 8, "sequences_per_forward": 64}
    model = {**MODEL, "initializer_range": 0.02}
    group = Group(torch.device("cpu"))
    assert preflight.drill(model, spec, run, group)["loss"] == 0.0
    seeds = iter((0, 1))
    first = preflight.initialise
    monkeypatch.setattr(preflight, "initialise", lambda model, seed, scaled: first(model, next(seeds), scaled))
    with pytest.raises(UserError, match="does not train as one device does"):
        preflight.drill(model, spec, run, group)


def test_the_launcher_starts_a_process_a_device() -> None:
    assert Layout().launcher == Layout(gpus_per_node=1).launcher == "python"
    assert Layout(gpus_per_node=8).launcher == "torchrun --standalone --nproc-per-node 8"
    several = Layout(nodes=4, gpus_per_node=8).launcher
    assert several.startswith("srun --nodes 4 ") and "--nnodes 4 --nproc-per-node 8" in several
