"""Leases: one process computes a step; whoever lost it does not publish; silence is judged by the watcher's clock."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.timeouts import WAIT

from smolmake.errors import UserError
from smolmake.execution.lease import (
    HEARTBEATS,
    LEASE,
    LOST,
    MISSED,
    NOTHING_TO_DO,
    Lost,
    SilenceWatch,
    await_main,
    heartbeat,
    hold,
    read_lease,
)

INTERVAL = 0.25  # seconds; short, and far longer than a busy machine makes a process wait for its turn

HOLDER = """
import sys, time
from pathlib import Path
from smolmake.execution.lease import hold
folder = Path(sys.argv[1])
with hold(folder, folder / "manifest.json") as lease:
    print("needless" if lease.needless else "holds", flush=True)
    if not lease.needless:
        sys.stdin.readline()
        lease.check()
        (folder / "manifest.json").write_text("whole")
print("ended", flush=True)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "SMOLMAKE_HEARTBEAT": str(INTERVAL)}
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def other_machine(folder: Path, **changes: Any) -> None:
    """A lease as a job on another node would have written it."""
    about = {"owner": "other", "state": "running", "job": "7", "host": "node9", "machine": "another", "pid": 1}
    (folder / LEASE).write_text(json.dumps(about | changes))


def test_a_second_copy_waits_and_takes_the_finished_result(tmp_path: Path) -> None:
    first = holder(tmp_path)
    assert line(first) == "holds"
    second = holder(tmp_path)
    time.sleep(0.5)
    assert second.poll() is None
    first.communicate("go\n", timeout=WAIT)
    said, told = second.communicate(timeout=WAIT)
    assert said.split() == ["needless", "ended"] and "waiting for job" in told
    assert (tmp_path / "manifest.json").read_text() == "whole" and read_lease(tmp_path) is None


def test_after_a_kill_the_next_on_this_machine_takes_over_at_once(tmp_path: Path) -> None:
    first = holder(tmp_path)
    assert line(first) == "holds"
    first.kill()
    first.communicate(timeout=WAIT)
    found = read_lease(tmp_path)
    assert found is not None and found["state"] == "running"
    with hold(tmp_path, tmp_path / "manifest.json", INTERVAL) as lease:
        assert not lease.needless


def test_a_lease_of_another_machine_is_waited_for_while_it_beats(tmp_path: Path) -> None:
    other_machine(tmp_path)
    second = holder(tmp_path)
    for _ in range(MISSED + 3):  # longer than the silence that counts
        time.sleep(INTERVAL)
        os.utime(tmp_path / LEASE)
    assert second.poll() is None
    said, told = second.communicate("go\n", timeout=WAIT)  # no beat any more
    assert said.split() == ["holds", "ended"] and "is stale: taking over" in told


@pytest.mark.parametrize("state", ["failed", "stopped", "refused"])
def test_a_lease_that_was_ended_is_free_at_once(tmp_path: Path, state: str) -> None:
    other_machine(tmp_path, state=state)
    began = time.monotonic()
    with hold(tmp_path, tmp_path / "manifest.json", INTERVAL) as lease:
        assert not lease.needless
    assert time.monotonic() - began < MISSED * INTERVAL


def test_an_owner_that_was_stopped_and_replaced_ends_and_publishes_nothing(tmp_path: Path) -> None:
    first = holder(tmp_path)
    assert line(first) == "holds"
    first.send_signal(signal.SIGSTOP)
    other_machine(tmp_path)
    first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=WAIT) == LOST
    assert "taken over by job 7 on node9" in first.communicate()[1]
    assert not (tmp_path / "manifest.json").exists()
    found = read_lease(tmp_path)
    assert found is not None and found["owner"] == "other"


def test_without_its_lease_a_job_does_not_write_its_manifest(tmp_path: Path) -> None:
    from smolmake.execution.job import Job
    from smolmake.execution.step import Run, Spec

    with hold(tmp_path, tmp_path / "manifest.json", interval=60.0) as lease:  # no thread ends this process
        other_machine(tmp_path)
        job = Job("mixture", "stage1", "0" * 10, tmp_path, Spec(), {}, Run(), lease=lease)
        with pytest.raises(Lost, match="node9"):
            job.finish([], {})
    assert not (tmp_path / "manifest.json").exists()


def test_what_ended_a_job_is_told(tmp_path: Path) -> None:
    for error, state in ((UserError("x", remedy="y"), "refused"), (SystemExit(143), "stopped"), (OSError(), "failed")):
        with pytest.raises(type(error)), hold(tmp_path, tmp_path / "manifest.json"):
            raise error
        found = read_lease(tmp_path)
        assert found is not None and found["state"] == state


def test_silence_is_measured_by_the_watcher_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    file = tmp_path / "beat"
    file.write_text("")
    os.utime(file, (0, 0))  # a clock that is decades behind
    watch = SilenceWatch(0.2)
    assert not watch.unchanged(file)
    clock[0] += 0.15
    os.utime(file, (1, 1))
    assert not watch.unchanged(file)
    clock[0] += 0.1
    assert not watch.unchanged(file)
    clock[0] += 0.15
    assert watch.unchanged(file)


def test_other_ranks_wait_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with hold(tmp_path, tmp_path / "manifest.json"):
        assert await_main(tmp_path)
        with heartbeat(tmp_path, 3, interval=INTERVAL):
            beat = tmp_path / HEARTBEATS / "12" / "3"
            beat.unlink()  # as a restarted executor may do
            limit = time.monotonic() + WAIT
            while not beat.exists():
                assert time.monotonic() < limit
                time.sleep(0.01)
    assert not (tmp_path / HEARTBEATS).exists()
    with heartbeat(tmp_path, 0, NOTHING_TO_DO):
        assert not await_main(tmp_path)


def test_a_lease_costs_less_than_a_hundredth_of_a_job_of_seconds(tmp_path: Path) -> None:
    began = time.perf_counter()
    for _ in range(20):
        with hold(tmp_path, tmp_path / "manifest.json"):
            pass
    assert (time.perf_counter() - began) / 20 < 0.05  # a job's processes take five seconds to start
