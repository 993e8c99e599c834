"""Trackers get the numbers of metrics.jsonl under one run, over stops too, and never end a training."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.timeouts import WAIT
from helpers.trainers import trainer
from helpers.training import ROOT

from smolmake.monitoring import trackers
from smolmake.monitoring.events import Events, read_events
from smolmake.monitoring.trackers import Trackers, scalars

pytestmark = pytest.mark.usefixtures("handlers")

# Logs steps FIRST to LAST of a run to a tracker, as a process of its own.
PROGRAM = """
import json, sys
from pathlib import Path
from smolmake.monitoring.events import Events
from smolmake.monitoring.trackers import Trackers
name, folder, first, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
tracked = Trackers([name], folder, Events(folder), True)
for step in range(first, last + 1):
    tracked.write({"step": step, "loss": 10.0 - step, "source_loss": {"web": 1.0}, "dropped": "a spike"})
tracked.close()
"""


def track(name: str, folder: Path, first: int, last: int, **environment: str) -> None:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, str(folder), str(first), str(last)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True, text=True, timeout=WAIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (folder / "events.jsonl").exists(), (folder / "events.jsonl").read_text()


def test_tensorboard_has_each_step_once_after_a_stop(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    folder = tmp_path / "stage1-0-9-abc"
    track("tensorboard", folder, 0, 6)
    track("tensorboard", folder, 4, 9)  # resumed from a checkpoint at step 4
    events = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(n, 10.0 - n) for n in range(10)]
    assert set(events.Tags()["scalars"]) == {"loss", "source_loss/web"}


@pytest.mark.needs("trackio")
def test_trackio_goes_on_with_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "stage1-0-9-abc"
    for first, last in ((0, 4), (5, 9)):
        track("trackio", folder, first, last, TRACKIO_DIR=str(tmp_path / "trackio"))
    with closing(sqlite3.connect(tmp_path / "trackio" / "smolmake.db")) as database:
        rows = database.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert {name for name, _, _ in rows} == {folder.name}
    assert [(step, json.loads(metrics)["loss"]) for _, step, metrics in rows] == [(n, 10.0 - n) for n in range(10)]


@pytest.mark.needs("wandb")
def test_wandb_works_offline_under_one_id(tmp_path: Path) -> None:
    folder = tmp_path / "stage1-0-9-abc"
    for first, last in ((0, 4), (5, 9)):
        track("wandb", folder, first, last, WANDB_MODE="offline")
    runs = [path.name.rsplit("-", 1)[1] for path in (folder / "wandb").glob("offline-run-*")]
    assert len(runs) == 2 and len(set(runs)) == 1


def test_a_tracker_that_fails_is_told_once_and_left(
    place: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken:
        def __init__(self, name: str, folder: Path) -> None:
            pass

        def write(self, step: int, values: dict[str, float]) -> None:
            raise ConnectionError("the server is away")

        def close(self) -> None:
            raise AssertionError("it was left before")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", Broken)
    run = trainer(place, tmp_path / "run", trackers=["wandb"])
    run.train()
    told = [event for event in read_events(tmp_path / "run") if event["kind"] == "tracker"]
    assert [(event["step"], event["what"]) for event in told] == [
        (0, "wandb is left: ConnectionError: the server is away")
    ]


def test_only_the_first_process_tracks(tmp_path: Path) -> None:
    tracked = Trackers(["tensorboard"], tmp_path, Events(tmp_path), False)
    tracked.write({"step": 0, "loss": 1.0})
    tracked.close()
    assert not list(tmp_path.iterdir())


def test_numbers_of_a_line() -> None:
    line: dict[str, Any] = {"step": 3, "loss": None, "mfu": 0.5, "source_loss": {"web": 2}, "skipped": "why"}
    assert scalars(line) == {"mfu": 0.5, "source_loss/web": 2.0}
