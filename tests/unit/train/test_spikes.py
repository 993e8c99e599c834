"""A spike of the loss that lasts: back to before it and on without its batches, to the bits of a run without them."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.timeouts import WAIT
from helpers.torchrun import torchrun
from helpers.trainers import trainer
from helpers.training import (
    BATCH,
    LENGTH,
    TRAIN_SLOWLY,
    curve,
    finished,
    make_artefacts,
    poison,
    segment,
    start,
    wait_for_lines,
)
from safetensors.torch import load_file, save_file

from smolmake.errors import UserError
from smolmake.monitoring.events import read_events
from smolmake.monitoring.metrics import read_metrics
from smolmake.recipe.pretraining import Guard, RollBack
from smolmake.train.recovery.checkpoint import Recovery
from smolmake.train.spikes import Drop, Spikes

pytestmark = pytest.mark.usefixtures("handlers")

SETTINGS = RollBack(loss_above=1.15, window=4, steps_in_a_row=3, drop_before=2, max_rollbacks=2)
GUARD = Guard(skip_above=1e9, roll_back=SETTINGS)
STEPS, POISON = 24, range(12, 18)
DROPPED = range(10, 15)  # two before the spike, to the third high loss
AGAIN = range(13, 18)  # what is left of the poison, with the two steps before


def watch(spikes: Spikes, losses: list[float], first: int = 0) -> Drop | None:
    found = None
    for step, loss in enumerate(losses, first):
        found = spikes.watch(step, loss, None)
    return found


def test_a_spike_is_noticed_when_it_lasts() -> None:
    spikes = Spikes(SETTINGS, 0)
    assert watch(spikes, [9.0, 2.0, 2.0, 2.0]) is None  # the usual is known from now on
    assert watch(spikes, [3.0, 3.0, 2.0, 3.0, 3.0], 4) is None and spikes.in_a_row == 2
    assert spikes.safe(9, 0) == 5
    copy = Spikes(SETTINGS, 0)
    copy.load(spikes.tensors())
    for memory in (spikes, copy):
        drop = watch(memory, [3.0], 9)
        assert drop == Drop(5, 9, 3.0, 2.0) and "1.50 times the usual 2" in drop.reason
        assert list(memory.losses) == [2.0, 2.0, 2.0, 2.0]  # no high loss among them


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_high_and_does_not_poison_the_usual(lost: float) -> None:
    spikes = Spikes(SETTINGS, 0)
    assert watch(spikes, [2.0, lost, lost, 2.0, lost]) is None
    assert list(spikes.losses) == [2.0, 2.0]
    drop = watch(spikes, [lost, lost], 5)
    assert drop is not None and (drop.first, drop.last, drop.usual) == (2, 6, 2.0)
    assert all(math.isfinite(loss) for loss in spikes.losses)


def test_too_many_skipped_gradients_are_a_spike_and_another_segments_steps_are_kept() -> None:
    spikes = Spikes(SETTINGS, 8)
    drop = spikes.watch(10, 2.0, 3)
    assert drop is not None and (drop.first, drop.last) == (8, 10)


def test_one_spike_too_many_ends_the_training() -> None:
    spikes = Spikes(SETTINGS, 0)
    spikes.drops = [Drop(0, 1, 1.0, 1.0), Drop(2, 3, 1.0, 1.0)]
    with pytest.raises(UserError, match="after 2 roll-backs"):
        watch(spikes, [math.nan] * 3, 20)


def test_checkpoints_from_before_a_spike_are_kept_and_those_that_hold_it_are_not_used(tmp_path: Path) -> None:
    recovery = Recovery(tmp_path, trainer_group())
    state = {"a": torch.ones(2)}
    for step in range(1, 10):
        recovery.save(step, {"a": state["a"] * step}, 0, safe=min(step, 4))
        recovery.wait()
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["4", "8", "9"]
    found = recovery.load({}, before=5)
    assert found is not None and found[0] == 4 and float(found[1]["a"][0]) == 4
    recovery.save(4, state, 1, safe=4)
    recovery.wait()
    newest = recovery.load({})
    assert newest is not None and newest[0] == 4 and float(newest[1]["a"][0]) == 1  # though 9 is still there
    recovery.discard(1, after=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000004.1"]


def trainer_group() -> Any:
    from smolmake.train.parallel import ParallelContext

    return ParallelContext(torch.device("cpu"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spikes")
    make_artefacts(folder)
    poison(folder, "poisoned", POISON)
    return folder


@pytest.fixture(scope="module")
def told(place: Path) -> Path:
    """Weights of a run that was told from the start what to drop."""
    run = trainer(place, place / "told", STEPS, mixture="poisoned", guard=GUARD)
    run.spikes.drops = [Drop(DROPPED[0], DROPPED[-1], 0.0, 0.0), Drop(AGAIN[0], AGAIN[-1], 0.0, 0.0)]
    run.train()
    weights = {name: tensor for name, tensor in run.model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, place / "told" / "model.safetensors")
    return place / "told"


def same_as_told(folder: Path, told: Path) -> None:
    weights = load_file(folder / "checkpoint" / "model.safetensors")
    for name, tensor in load_file(told / "model.safetensors").items():
        assert torch.equal(weights[name], tensor), name
    assert curve(folder) == curve(told)


def test_it_rolls_back_to_the_bits_of_a_run_that_was_told_what_to_drop(place: Path, told: Path) -> None:
    folder = finished(place, segment(0, STEPS, name="rolled", mixture="poisoned", guard=GUARD, recovery_every=1e-9))
    same_as_told(folder, told)
    lines = read_metrics(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert [line["step"] for line in lines if "dropped" in line] == list(range(DROPPED[0], AGAIN[-1] + 1))
    drops = [event for event in read_events(folder) if event["kind"] == "dropped"]
    assert [(drop["first"], drop["last"]) for drop in drops] == [(r[0], r[-1]) for r in (DROPPED, AGAIN)]
    facts = json.loads((folder / "manifest.json").read_text())["facts"]
    assert facts["dropped_steps"] == [[DROPPED[0], AGAIN[-1]]]
    assert facts["dropped_tokens"] == sum(facts["dropped_by_source"].values()) * LENGTH == 8 * BATCH * LENGTH
    assert facts["dropped_by_source"]["static"] == len(POISON) * BATCH


def test_without_an_earlier_checkpoint_it_begins_at_the_segments_start(place: Path, told: Path) -> None:
    folder = place / "begun"
    run = trainer(place, folder, STEPS, mixture="poisoned", guard=GUARD, recovery_every=1e9)
    run.train()
    for name, tensor in load_file(told / "model.safetensors").items():
        assert torch.equal(run.model.state_dict()[name], tensor), name
    assert curve(folder) == curve(told)
    assert [i["resumed"] for i in read_events(folder) if i["kind"] == "dropped"] == [0, 0]


def test_killed_around_a_spike_it_ends_in_the_same_bits(place: Path, told: Path) -> None:
    job = segment(0, STEPS, name="killed", mixture="poisoned", guard=GUARD, recovery_every=1e-9)
    folder = place / "results/segment/killed"
    for noticed in (False, True):
        process = start(place, job, TRAIN_SLOWLY)
        if noticed:
            wait_for_drop(folder, process)
        else:
            wait_for_lines(folder / "metrics.jsonl", POISON[0] + 2, process)
        process.kill()
        process.communicate(timeout=WAIT)
        assert not (folder / "manifest.json").exists()
    finished(place, job)
    same_as_told(folder, told)
    assert len([i for i in read_events(folder) if i["kind"] == "resumed"]) >= 2


def wait_for_drop(folder: Path, process: Any) -> None:
    limit = time.monotonic() + WAIT
    while not any(event["kind"] == "dropped" for event in read_events(folder)):
        assert process.poll() is None and time.monotonic() < limit, process.communicate()[1]
        time.sleep(0.001)


def test_a_third_spike_ends_the_segment_with_a_remedy(place: Path) -> None:
    poison(place, "lost", range(12, 24))
    run = trainer(place, place / "lost", STEPS, mixture="lost", guard=GUARD)
    with pytest.raises(UserError, match="after 2 roll-backs") as caught:
        run.train()
    assert caught.value.key == "pretraining.guard.roll_back.max_rollbacks" and "events.jsonl" in caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_several_processes_roll_back_together(place: Path, told: Path, strategy: str) -> None:
    layout = {"strategy": strategy}
    job = segment(
        0, STEPS, name=strategy, mixture="poisoned", guard=GUARD, recovery_every=1e-9, layout=layout, micro_batch=2
    )
    process = torchrun(2, TRAIN_SLOWLY, job, place)
    folder = place / job["folder"]
    wait_for_drop(folder, process)
    process.terminate()  # with a checkpoint of the roll-back as its newest
    process.communicate(timeout=WAIT)
    assert not (folder / "manifest.json").exists()
    process = torchrun(2, "segment.py", job, place)
    errors = process.communicate(timeout=WAIT)[1]
    assert process.returncode == 0, errors
    assert [step for step, loss, _ in curve(folder) if loss is None] == [
        step for step, loss, _ in curve(told) if loss is None
    ]
    found, expected = ([loss for _, loss, _ in curve(run) if loss is not None] for run in (folder, told))
    assert found == pytest.approx(expected, rel=1e-4)
    assert json.loads((folder / "manifest.json").read_text())["facts"]["dropped_steps"] == [[DROPPED[0], AGAIN[-1]]]
