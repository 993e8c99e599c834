"""A run on a machine with one GPU: jobs that use it take turns, and what it cannot give is refused.

Snakemake and the jobs are real, only `nvidia-smi` is not: the jobs compute on the CPU with a GPU in their name.
"""

import json
import os
from datetime import datetime
from pathlib import Path

import pytest
from helpers.workflow_runs import MINI, copy_tree, fail, succeed, workflow_of

from smolmake.execution.step import Step

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0a)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return copy_tree(tmp_path / "tree")


def recipe(tree: Path, runtime: str) -> str:
    (tree / "config/recipes/mine.yaml").write_text(f"extends: {MINI}\nname: mine\nruntime: {runtime}\n")
    return "config/recipes/mine.yaml"


def log(tree: Path, step: Step) -> str:
    return (tree / "logs" / f"{step.key}.log").read_text()


def test_the_preflights_of_three_layouts_take_turns(tree: Path) -> None:
    mine = recipe(
        tree, "{recovery_every: 60s, preflight: {when: always}, layouts: {pretraining: {}, lc1: {}, lc2: {}}}"
    )
    steps = workflow_of(tree, mine).steps.of_kind("preflight")
    assert len(steps) == 3
    succeed(tree, *(step.manifest for step in steps), recipe=mine)
    about = [json.loads((tree / step.manifest).with_name("provenance.json").read_text()) for step in steps]
    times = sorted((datetime.fromisoformat(each["started"]).timestamp(), each["seconds"]) for each in about)
    for (began, seconds), (after, _) in zip(times, times[1:], strict=False):
        assert began + seconds <= after + 1, times  # a start is noted in whole seconds
    for step in steps:
        assert "GPUs of this job: GPU-0a" in log(tree, step)
    # The device was checked once: the others say when.
    assert sorted(log(tree, step).count("min ago") for step in steps) == [0, 2, 2]
    last = max(steps, key=lambda step: (tree / step.manifest).stat().st_mtime)
    succeed(tree, last.manifest, "--forcerun", "preflight", recipe=mine)
    assert "min ago" not in log(tree, last)


def test_a_layout_beyond_the_machine_is_refused(tree: Path) -> None:
    mine = recipe(tree, "{layouts: {pretraining: {gpus_per_node: 4, micro_batch: 1}}}")
    assert "A run here would be refused: this machine has 1 GPU" in succeed(tree, "--dry-run", recipe=mine)
    said = fail(tree, recipe=mine)
    assert "needs 4 GPUs, and this machine has 1 GPU for jobs" in said and "runtime.device: cpu" in said
    assert "this machine has no GPUs" in fail(tree, "--resources", "gpus=0", recipe=mine)
    assert not any((tree / "results").glob("*/*"))
