"""A segment, run by its real script: killed and resumed, stopped, cut in two, it ends in the same bits."""

import json
import os
import signal
from pathlib import Path

import pytest
from helpers.timeouts import WAIT
from helpers.training import (
    TRAIN_SLOWLY,
    curve,
    finished,
    make_artefacts,
    same_checkpoint,
    segment,
    start,
    wait_for_lines,
)
from safetensors.torch import load_file

from smolmake.execution.manifest import verify_payload

STEPS = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    make_artefacts(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    return finished(place, segment(0, STEPS, name="undisturbed"))


def test_it_learns_and_leaves_a_whole_artefact(undisturbed: Path) -> None:
    losses = [loss for _, loss, _ in curve(undisturbed)]
    assert len(losses) == STEPS and losses[-1] < losses[0] - 0.5
    verify_payload(undisturbed / "manifest.json")
    manifest = json.loads((undisturbed / "manifest.json").read_text())
    assert manifest["facts"]["step"] == STEPS and manifest["facts"]["tokens_total"] == STEPS * 4 * 32
    assert not (undisturbed / "recovery").exists()


def test_killed_twice_it_goes_on_bit_for_bit(
    place: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from shards on the node's own disk, where they are copied once."""
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    job = segment(0, STEPS, name="killed", recovery_every=1e-9, scratch="$NODE_DISK")
    folder = place / "results/segment/killed"
    for lines in (5, 13):
        process = start(place, job, TRAIN_SLOWLY)
        wait_for_lines(folder / "metrics.jsonl", lines, process)
        process.kill()
        process.communicate(timeout=WAIT)
        assert not (folder / "manifest.json").exists()
    last = start(place, job)
    errors = last.communicate(timeout=WAIT)[1]
    assert last.returncode == 0 and "resuming at step" in errors
    assert int(errors.split("resuming at step ")[1].split()[0]) > 0
    assert curve(folder) == curve(undisturbed)
    same_checkpoint(folder, undisturbed)
    for name in ("count", "rhyme"):
        verify_payload(tmp_path / "shards" / name / "manifest.json")


def test_a_second_process_waits_and_does_not_compute_again(place: Path, undisturbed: Path) -> None:
    job = segment(0, STEPS, name="twice")
    folder = place / "results/segment/twice"
    first = start(place, job, TRAIN_SLOWLY)
    wait_for_lines(folder / "metrics.jsonl", 2, first)
    first.send_signal(signal.SIGSTOP)
    second = start(place, job)
    assert second.stderr is not None and "waiting for job" in second.stderr.readline()
    assert len(curve(folder)) < STEPS and second.poll() is None
    first.send_signal(signal.SIGCONT)
    assert first.wait(WAIT) == second.wait(WAIT) == 0
    assert "training" not in second.stderr.read()
    same_checkpoint(folder, undisturbed)


def test_sigterm_saves_the_state_and_exits_143(place: Path, undisturbed: Path) -> None:
    job = segment(0, STEPS, name="stopped")
    folder = place / "results/segment/stopped"
    process = start(place, job, TRAIN_SLOWLY)
    wait_for_lines(folder / "metrics.jsonl", 3, process)
    process.terminate()
    errors = process.communicate(timeout=WAIT)[1]
    assert process.returncode == 143 and "stopped by SIGTERM" in errors
    done = len(curve(folder))
    assert 3 <= done < STEPS
    assert [path.name for path in (folder / "recovery").iterdir()] == [f"step-{done:09d}"]
    finished(place, job)
    assert curve(folder) == curve(undisturbed)
    same_checkpoint(folder, undisturbed)


def test_two_segments_are_one_run(place: Path, undisturbed: Path) -> None:
    first = finished(place, segment(0, STEPS // 2, steps=STEPS, name="first"))
    second = finished(place, segment(STEPS // 2, STEPS, steps=STEPS, name="second", parent="first"))
    assert curve(first) + curve(second) == curve(undisturbed)
    same_checkpoint(second, undisturbed)


def test_a_damaged_shard_is_named_and_not_trained_on(place: Path) -> None:
    shard = place / "results/shards/rhyme/tokens.bin"
    content = shard.read_bytes()
    try:
        shard.write_bytes(content[:-2])
        process = start(place, segment(0, 4, name="damaged"))
        errors = process.communicate(timeout=WAIT)[1]
    finally:
        shard.write_bytes(content)
    assert process.returncode == 1 and "tokens.bin" in errors and "Traceback" not in errors
    assert not (place / "results/segment/damaged/metrics.jsonl").exists()


def test_the_optimizers_state_is_that_of_the_last_step(undisturbed: Path) -> None:
    tensors = load_file(undisturbed / "checkpoint" / "optimizer.safetensors")
    assert {float(value) for name, value in tensors.items() if name.startswith("step/")} == {float(STEPS)}
    assert os.path.getsize(undisturbed / "checkpoint" / "model.safetensors") > 100_000
