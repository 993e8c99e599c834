"""The training loop in this process: what only decides how it runs changes nothing, and a lost loss ends it."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from helpers.trainers import trainer
from helpers.training import BATCH, LENGTH, curve

from smolmake.errors import UserError
from smolmake.monitoring.events import read_events

pytestmark = pytest.mark.usefixtures("handlers")


def test_recovery_checkpoints_change_no_bit(place: Path, tmp_path: Path) -> None:
    often = trainer(place, tmp_path / "often", recovery_every=1e-9)
    never = trainer(place, tmp_path / "never", recovery_every=1e9)
    often.train()
    never.train()
    assert (tmp_path / "often" / "recovery").is_dir() and not (tmp_path / "never" / "recovery").exists()
    assert curve(tmp_path / "often") == curve(tmp_path / "never")
    for name, parameter in often.model.named_parameters():
        assert torch.equal(parameter, never.model.get_parameter(name)), name


def test_the_micro_batch_changes_neither_batches_nor_the_loss(place: Path, tmp_path: Path) -> None:
    curves = []
    for rows in (1, 2, 3, BATCH, 64):
        trainer(place, tmp_path / f"{rows}", micro_batch=rows).train()
        curves.append([loss for _, loss, _ in curve(tmp_path / f"{rows}")])
    for losses in curves[1:]:
        assert losses == pytest.approx(curves[0], rel=1e-4)
    assert curves[-1] == curves[-2]  # one forward pass each: the same bits


@pytest.mark.parametrize("mixture", ["stage1", "packed"])
def test_the_loss_is_the_mean_over_unmasked_labels_of_the_global_batch(
    place: Path, tmp_path: Path, mixture: str
) -> None:
    one = trainer(place, tmp_path / "one", micro_batch=1, mixture=mixture)
    inputs, labels, documents = (torch.from_numpy(part) for part in one.reader.batch(0))
    if mixture == "packed":
        targets = (labels != -100).sum(1)
        assert targets.min() < targets.max() == LENGTH  # rows count by their targets
    with torch.no_grad():
        logits = one.model(inputs, documents)
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    assert (labels == -100).any()
    assert one.step(0, 0.0).loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_explodes_ends_with_a_remedy(place: Path, tmp_path: Path) -> None:
    wild = trainer(place, tmp_path / "wild", steps=60, peak=1e38, recovery_every=1e-9)
    with pytest.raises(UserError) as caught:
        wild.train()
    assert "not finite" in caught.value.what and "learning rate" in caught.value.remedy
    assert len(str(caught.value).splitlines()) <= 12


def test_a_lost_weight_ends_before_the_optimizer_spreads_it(place: Path, tmp_path: Path) -> None:
    broken = trainer(place, tmp_path / "broken", recovery_every=1e-9)
    broken.step(0, 1e-3)
    with torch.no_grad():
        broken.model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    kept = broken.model.lm_head.weight.clone()
    with pytest.raises(UserError, match="step 1"):
        broken.step(1, 1e-3)
    assert torch.equal(broken.model.lm_head.weight, kept)
    assert not (tmp_path / "broken" / "recovery").exists()


def test_a_full_disk_costs_recovery_checkpoints_and_not_the_training(place: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    run = trainer(place, tmp_path / "full", recovery_every=1e-9)
    folder = tmp_path / "full" / "recovery"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False).returncode != 0:
        pytest.skip("root without the right to mount")
    try:
        run.train()
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    told = [event for event in read_events(tmp_path / "full") if event["kind"] == "saving"]
    assert len(curve(tmp_path / "full")) == 8 and len(told) > 1
    assert all("No space left on device" in event["what"] for event in told)


def test_a_segment_without_room_for_its_checkpoints_is_refused_before_its_first_step(
    place: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    run = trainer(place, tmp_path / "small")
    state = 12 * sum(parameter.numel() for parameter in run.model.parameters())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={3 * state + 65_536}", "tmpfs", str(tmp_path / "small")]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("root without the right to mount")
    try:
        filling = tmp_path / "small" / "state.safetensors"
        filling.write_bytes(b"1" * 131_072)
        with pytest.raises(UserError, match="not enough free space") as caught:
            run.train()
        assert "smolmake gc" in caught.value.remedy and not (tmp_path / "small" / "metrics.jsonl").exists()
        place = tmp_path / "small" / "recovery" / "step-000000004"
        place.mkdir(parents=True)
        filling.rename(place / filling.name)  # a recovery checkpoint is replaced: it takes no room
        (place / "state.json").write_text("{}")
        run.train()
        assert len(curve(tmp_path / "small")) == 8
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)
