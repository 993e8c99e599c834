"""Where a run is, from the folders of its steps, while it runs and after."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.recipes import SMALL, write_recipe
from helpers.timeouts import WAIT
from helpers.trainers import trainer
from helpers.training import ROOT, make_artefacts

from smolmake.execution.lease import HEARTBEAT, MISSED
from smolmake.execution.manifest import MANIFEST
from smolmake.execution.step import Step
from smolmake.monitoring.metrics import METRICS, read_metrics
from smolmake.monitoring.run_state import END, disk_use, holder, training
from smolmake.planning.status import goodput_of, open_workflow, status_of, status_text
from smolmake.planning.workflow import Workflow


@pytest.fixture
def workflow(tree: Path) -> Iterator[Workflow]:
    """A small recipe's steps; the handler that trainings set is put back."""
    before = signal.getsignal(signal.SIGTERM)
    make_artefacts(tree)
    yield open_workflow(str(write_recipe(tree, SMALL)), tree)
    signal.signal(signal.SIGTERM, before)


def first(workflow: Workflow) -> tuple[Step, Path]:
    """The first segment and its folder, which is to be made."""
    step = workflow.steps.of_kind("segment")[0]
    folder = workflow.steps.root / "results" / step.key
    folder.parent.mkdir(parents=True)
    return step, folder


def test_a_training_is_seen_while_it_holds_its_lock_and_when_it_stands_still(workflow: Workflow, tree: Path) -> None:
    step, folder = first(workflow)
    trainer(tree, folder).train()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status = status_of(workflow)
        (entry,) = status.running
        assert entry.alive and entry.step == step.key and (entry.first, entry.end) == (0, 10)
        lines = read_metrics(folder / METRICS)
        at = entry.training
        assert at is not None and at.step == len(lines) and at.loss == lines[-1]["loss"] and at.mfu is None
        assert entry.seconds_left == pytest.approx((10 - at.step) * at.seconds_per_step)
        stage = next(stage for stage in status.stages if stage.stage == "stage1")
        assert stage.running == 1 and stage.done == 0
        assert f"{step.key}: running, step {at.step} of 10, loss" in status_text(status)
    after = status_of(workflow)
    assert not after.running[0].alive and f"{step.key}: NOT running" in status_text(after)
    (folder / MANIFEST).write_text("{}")
    done = status_of(workflow)
    assert not done.running and next(s for s in done.stages if s.stage == "stage1").done == 1
    assert done.hours_left < after.hours_left
    json.dumps(done.as_json())


def test_goodput_counts_kept_steps_over_the_time_since_the_first_start(workflow: Workflow, tree: Path) -> None:
    _, folder = first(workflow)
    before = time.time()
    run = trainer(tree, folder)
    run.train()
    spent = sum(line["seconds"] for line in read_metrics(folder / METRICS))
    good = goodput_of([folder], going_on=True, now=before + 100)
    assert good is not None and good.starts == 1 and ", 1 start\n" in status_text(status_of(workflow))
    assert good.kept_seconds == pytest.approx(spent, abs=1e-3) and good.wall_seconds == pytest.approx(100, abs=5)
    # Going back to step 4 takes the time of what comes after it away.
    run.run_log.begin(4, 0, 1)
    run.run_log.step({"step": 4, "tokens": 1, "loss": 1.0}, 128, 0.5, 0.0)
    run.run_log.close()
    lines = read_metrics(folder / METRICS)
    again = goodput_of([folder], going_on=True, now=before + 100)
    assert len(lines) == 5 and again is not None
    assert again.kept_seconds == pytest.approx(sum(line["seconds"] for line in lines), abs=1e-3)
    run.train()
    ended = goodput_of([folder], going_on=False)
    assert ended is not None and ended.starts == 2 and 0 < ended.share <= 1


def test_a_dropped_step_is_no_kept_time(workflow: Workflow, tree: Path) -> None:
    _, folder = first(workflow)
    run = trainer(tree, folder)
    run.train()
    run.run_log.begin(2, 0, 1)
    kept = training(folder)
    run.run_log.step({"step": 2, "tokens": 1, "loss": None, "dropped": "a spike"}, 128, 60.0, 0.0)
    run.run_log.close()
    at = training(folder)
    assert kept is not None and at is not None and at.kept_seconds == kept.kept_seconds and at.loss is not None


@pytest.mark.parametrize(
    ("age", "host", "state", "alive"),
    [
        (1, "elsewhere", "running", True),
        (MISSED * HEARTBEAT + 5, "elsewhere", "running", False),
        (1, "elsewhere", "failed", False),
        (1, os.uname().nodename, "running", False),  # here the lock alone decides
    ],
)
def test_a_lease_of_another_host_says_who_computes_while_it_is_fresh(
    tmp_path: Path, age: float, host: str, state: str, alive: bool
) -> None:
    lease = tmp_path / "lease.json"
    lease.write_text(json.dumps({"host": host, "job": "71", "state": state}))
    os.utime(lease, (time.time() - age, time.time() - age))
    who = holder(tmp_path)
    assert (who is not None) == alive
    assert who is None or (who.host, who.job) == ("elsewhere", "71")


def test_only_the_end_of_a_long_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with file.open("w") as lines:
        lines.writelines(json.dumps({"step": n, "loss": 2.0, "filling": "x" * 90}) + "\n" for n in range(100_000))
        lines.write('{"step": 100000, "lo')  # not yet whole
    began = time.process_time()
    at = training(tmp_path)
    assert at is not None and at.step == 100_000 and time.process_time() - began < 0.1
    assert len(read_metrics(file, END)) < 1000


def test_disk_use_counts_no_links_and_says_when_time_ran_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"1" * 1000)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert disk_use(tmp_path) == (1000, True)
    assert disk_use(tmp_path, seconds=-1.0) == (0, False)


def test_the_program_needs_neither_torch_nor_snakemake_and_writes_nothing(tree: Path) -> None:
    recipe = write_recipe(tree, SMALL)
    code = (
        "import sys; from smolmake.cli import main; main();"
        "print([m for m in ('torch', 'snakemake', 'numpy', 'pyarrow') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "status", str(recipe), "--json"], cwd=tree, capture_output=True, text=True,
        timeout=WAIT, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
    found = json.loads(done.stdout)
    assert found["recipe"] == "small" and found["goodput"] is None and found["running"] == []
    assert {"stage": "stage1", "done": 0, "running": 0, "to_do": 4} in found["stages"], found["stages"]
    assert not (tree / "results").exists()
