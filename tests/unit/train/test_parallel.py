"""Several processes train as one does: same batches and first weights, curves within bounds; any resumes any."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import SHAPE
from helpers.timeouts import WAIT
from helpers.torchrun import torchrun
from helpers.training import ROOT, TRAIN_SLOWLY, curve, finished, make_artefacts, segment, wait_for_lines
from safetensors.torch import load_file

from smolmake.errors import UserError
from smolmake.graph.specs.pretrain import PreflightRun, PreflightSpec, SegmentSpec
from smolmake.model.config import ModelConfig
from smolmake.model.init import initialise
from smolmake.preflight.parity import ParityRun, parity
from smolmake.recipe.pretraining import ModelShape, Optimizer
from smolmake.recipe.runtime import DeviceLayout, Layout, Preflight
from smolmake.recipe.schedule import BatchPiece
from smolmake.train.parallel import ParallelContext, check_layout, init_parallel

MODEL = {key: SHAPE[key] for key in ModelShape.model_fields if key in SHAPE} | {"initializer_range": 0.02}


def test_a_preflight_checks_the_machine_and_trains_as_one(tmp_path: Path) -> None:
    layout = Layout(strategy="fsdp", context_parallel=2)
    spec = PreflightSpec(
        layout=layout, model=ModelShape(**MODEL), rope_theta=1e4, vocab_size=512, optimizer=Optimizer(),
        precision="fp32", sequence_length=64,
    )  # fmt: skip
    run = PreflightRun(
        layout=layout, device="cpu", limits=Preflight(), mfu=0.3, cpu_flops=1e9, recovery_every=600.0, scratch=None
    )
    job = {"kind": "preflight", "name": "p", "id": "0", "folder": "results/preflight/p", "inputs": {}}
    job |= {"spec": spec.values(), "run": run.model_dump()}
    process = torchrun(2, "preflight.py", job, tmp_path)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 0, errors
    results = json.loads((tmp_path / "results/preflight/p/checks.json").read_text())
    found = {result["check"]: result["measured"] for result in results}
    assert {"free disk", "device memory", "all-reduce over 2", "save and resume", "parity"} < set(found)
    assert found["save and resume"].startswith("weights bit for bit")
    assert largest_difference(found["parity"]) < 2e-6
    assert (tmp_path / "results/preflight/p/manifest.json").exists()


# name: layout, optimizer, precision, how far its losses may be from one process's
TOGETHER: dict[str, tuple[dict[str, Any], str, str, float]] = {
    "ddp": ({"strategy": "ddp"}, "adamw", "fp32", 2e-6),
    "fsdp": ({"strategy": "fsdp"}, "adamw", "fp32", 2e-6),
    "hsdp": ({"strategy": "hsdp", "nodes": 2}, "adamw", "fp32", 2e-6),
    "hsdp in bf16": ({"strategy": "hsdp", "nodes": 2}, "adamw", "bf16", 5e-3),
    "zero1": ({"strategy": "zero1"}, "adamw", "fp32", 2e-6),
    "zero2": ({"strategy": "zero2"}, "adamw", "fp32", 2e-6),
    "context 2": ({"strategy": "fsdp", "context_parallel": 2}, "adamw", "fp32", 2e-6),
    "context 4, more than key heads": ({"strategy": "ddp", "context_parallel": 4}, "adamw", "fp32", 2e-6),
    "muon": ({"strategy": "ddp"}, "muon", "fp32", 2e-6),
}


def test_four_processes_train_as_one_in_every_layout(tmp_path: Path) -> None:
    cases = {
        name: (MODEL, layout, {"name": optimizer}, precision)
        for name, (layout, optimizer, precision, _) in TOGETHER.items()
    }
    process = torchrun(4, ROOT / "tests/helpers/run_layouts.py", cases, tmp_path, output=subprocess.PIPE)
    said, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 0, errors
    found = {name: (measured, passed) for name, measured, passed in map(json.loads, said.splitlines())}
    assert set(found) == set(TOGETHER)
    for name, (measured, passed) in found.items():
        assert passed and largest_difference(measured) < TOGETHER[name][3], (name, measured)


def largest_difference(measured: str) -> float:
    """Of the losses, from a finding such as "losses within 2.2e-07, weights ..."."""
    return float(measured.split()[2].rstrip(","))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    make_artefacts(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    return finished(place, segment(0, 16, name="undisturbed", micro_batch=2, mixture="packed"))


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
            0, 16, name=name, micro_batch=2, mixture="packed", recovery_every=1e-9,
            layout={} if strategy == "alone" else {"strategy": strategy}, milestones=[4, 12],
        )  # fmt: skip
        script = TRAIN_SLOWLY if strategy == before else "segment.py"
        process = torchrun(1 if strategy == "alone" else 2, script, job, place)
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
    ("world", "layout", "changes", "message"),
    [
        (3, {}, {}, "divide"),
        (2, {"nodes": 1, "gpus_per_node": 8}, {}, "8 devices and 2 processes"),
        (4, {"strategy": "hsdp", "nodes": 3, "gpus_per_node": 0}, {}, "nodes"),
        (2, {"strategy": "fsdp"}, {"optimizer": Optimizer(name="muon")}, "muon"),
        (4, {"context_parallel": 3}, {}, "context_parallel 3"),
        (2, {"context_parallel": 2}, {"sequence_length": 63}, "63 tokens"),
        (6, {"context_parallel": 2}, {}, "groups of 2"),
        (1, {}, {"precision": "float8"}, "float8"),
        (2, {}, {"batches": (BatchPiece(start=0, size=3, sequences_before=0),)}, "batch of 3"),
    ],
    ids=lambda value: "",
)
def test_a_layout_that_cannot_work_is_refused(
    world: int, layout: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    parallel = ParallelContext(torch.device("cpu"), 0, world, DeviceLayout(**layout))
    spec = SegmentSpec.model_validate(segment(0, 8)["spec"])
    spec = spec.model_copy(update={"global_batch_size": 8, "sequence_length": 64, **changes})
    with pytest.raises(UserError) as caught:
        check_layout(parallel, spec, ModelConfig(**SHAPE))
    assert message in str(caught.value) and caught.value.remedy


def test_parity_shows_a_layout_that_trains_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = ParallelContext(torch.device("cpu"))
    small = ParityRun(ModelShape(**MODEL), 1e4, Optimizer(), "fp32", alone)
    assert parity(small).passed
    seeds = iter((0, 1))
    monkeypatch.setattr("smolmake.train.segment.initialise", lambda model, seed: initialise(model, next(seeds)))
    assert not parity(small).passed


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("device", "gpus"), [("auto", 4), ("cuda", 0)])
def test_a_job_does_not_train_on_the_cpu_what_is_for_gpus(device: str, gpus: int) -> None:
    with pytest.raises(UserError, match="PyTorch finds 0 here") as caught:
        init_parallel(device, Layout(gpus_per_node=gpus))
    assert "runtime.device: cpu" in caught.value.remedy
    assert init_parallel("cpu", Layout(gpus_per_node=gpus)).device.type == "cpu"
    assert init_parallel("auto", Layout()).device.type == "cpu"


def test_the_launcher_starts_a_process_a_device() -> None:
    assert Layout().launcher() == Layout(gpus_per_node=1).launcher() == "python"
    assert Layout(gpus_per_node=8).launcher() == "python -m smolmake.cluster.torchrun 8"
    several = Layout(nodes=4, gpus_per_node=8).launcher(threads=12)
    assert several.startswith("srun --nodes=4 --ntasks=32 --ntasks-per-node=8 --cpus-per-task=12 ")
    assert several.endswith("--kill-on-bad-exit=1 python -m smolmake.cluster.srun")
