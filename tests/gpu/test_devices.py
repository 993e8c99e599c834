"""Jobs that each want most of a GPU's memory, on a machine with any number of GPUs: none meets another on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.timeouts import WAIT
from helpers.workflow_runs import copy_tree, fail, succeed, workflow_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
ROOT = Path(__file__).parents[2]
# Takes 60 % of the memory: two of these on one GPU fail. Says its GPU, with the times between which it has it.
JOB = """
import time, torch
began, properties = time.monotonic(), torch.cuda.get_device_properties(0)
held = torch.zeros(int(0.6 * properties.total_memory), dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
time.sleep(3)
print(torch.cuda.device_count(), properties.uuid, began, time.monotonic())
"""


def start(**environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "smolmake.execution.devices", "1", sys.executable, "-c", JOB]
    known = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.Popen(command, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(job: subprocess.Popen[str]) -> tuple[str, float, float]:
    out, error = job.communicate(timeout=WAIT)
    assert job.returncode == 0, error
    count, uuid, began, ended = out.split()
    assert count == "1"
    return uuid, float(began), float(ended)


def test_each_job_has_a_gpu_of_its_own() -> None:
    found = sorted(
        (said(job) for job in [start() for _ in range(2 * torch.cuda.device_count() + 1)]), key=lambda x: x[1]
    )
    assert len({uuid for uuid, _, _ in found}) == torch.cuda.device_count()
    for uuid in {each[0] for each in found}:
        turns = [each for each in found if each[0] == uuid]
        assert all(before[2] <= after[1] for before, after in zip(turns, turns[1:], strict=False)), turns


@pytest.mark.skipif("CUDA_VISIBLE_DEVICES" in os.environ, reason="a choice of GPUs is made already")
def test_the_numbers_of_an_outer_choice_are_those_of_nvidia_smi() -> None:
    last = torch.cuda.device_count() - 1
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said(start(CUDA_VISIBLE_DEVICES=str(last)))[0] in listed[last]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_tree(tmp_path / "tree")


def recipe(tree: Path, layouts: str) -> str:
    runtime = f"{{preflight: {{burn_in: 5s, all_reduce_within: null}}, layouts: {layouts}}}"
    (tree / "config/recipes/mine.yaml").write_text(f"extends: smol-135m\nname: mine\nruntime: {runtime}\n")
    return "config/recipes/mine.yaml"


@pytest.mark.slow
def test_preflights_of_three_layouts_started_at_once_all_pass(tree: Path) -> None:
    wide = min(2, torch.cuda.device_count())
    mine = recipe(tree, f"{{stage2: {{gpus_per_node: {wide}, micro_batch: 16}}}}")
    steps = workflow_of(tree, mine).steps.of_kind("preflight")
    assert {step.name for step in steps} == {"pretraining", "stage2", "lc1"}
    succeed(tree, *(step.manifest for step in steps), "--cores", "8", recipe=mine)
    logs = [(tree / "logs" / f"{step.key}.log").read_text() for step in steps]
    assert all("GPUs of this job: GPU-" in log for log in logs)
    checked = [log for log in logs if "min ago" not in log]  # each GPU once
    assert 1 <= len(checked) <= torch.cuda.device_count(), logs


def test_more_gpus_than_there_are_are_refused(tree: Path) -> None:
    mine = recipe(tree, f"{{pretraining: {{gpus_per_node: {2 * torch.cuda.device_count()}, micro_batch: 1}}}}")
    assert f"and this machine has {torch.cuda.device_count()} GPU" in fail(tree, "checks", recipe=mine)
