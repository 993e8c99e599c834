"""Recovery checkpoints, metrics and the optimizer's state survive what a crash leaves behind."""

import errno
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from helpers.models import decoder
from torch.distributed.checkpoint.state_dict_saver import save

from smolmake.errors import UserError
from smolmake.files import file_digest
from smolmake.monitoring.metrics import Metrics, read_metrics
from smolmake.recipe.pretraining import Optimizer
from smolmake.train.optimizer import load_optimizer, make_optimizer, optimizer_tensors, set_learning_rate
from smolmake.train.parallel import ParallelContext
from smolmake.train.recovery.checkpoint import Recovery

ALONE = ParallelContext(torch.device("cpu"))


def save_recovery(folder: Path, step: int, tensors: dict[str, torch.Tensor], group: ParallelContext) -> None:
    recovery = Recovery(folder, group)
    recovery.save(step, tensors)
    recovery.wait()


def load_recovery(
    folder: Path, parameters: dict[str, torch.Tensor], group: ParallelContext
) -> tuple[int, dict[str, torch.Tensor]] | None:
    return Recovery(folder, group).load(parameters)


def state(value: float) -> dict[str, torch.Tensor]:
    return {"a": torch.full((3, 2), value), "b": torch.tensor([value])}


def test_the_newest_whole_state_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    assert load_recovery(tmp_path / "recovery", {}, ALONE) is None
    for step in (8, 9, 10, 100):
        save_recovery(tmp_path / "recovery", step, state(step), ALONE)
    assert [path.name for path in sorted((tmp_path / "recovery").iterdir())] == ["step-000000010", "step-000000100"]
    found = load_recovery(tmp_path / "recovery", {}, ALONE)
    assert found is not None and found[0] == 100
    assert torch.equal(found[1]["a"], state(100)["a"])


@pytest.mark.parametrize("damage", ["cut", "changed", "no state", "cut state", "no tensors", "other state"])
def test_a_damaged_state_is_passed_over_and_named(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        save_recovery(tmp_path, step, state(step), ALONE)
    newest = tmp_path / "step-000000002"
    tensors = (newest / "state.safetensors").read_bytes()
    if damage == "cut":
        (newest / "state.safetensors").write_bytes(tensors[:-3])
    elif damage == "changed":
        (newest / "state.safetensors").write_bytes(tensors[:-1] + b"\x7f")
    elif damage == "no tensors":
        (newest / "state.safetensors").unlink()
    elif damage == "no state":
        (newest / "state.json").unlink()
    elif damage == "cut state":
        (newest / "state.json").write_text((newest / "state.json").read_text()[:10])
    else:
        (newest / "state.json").write_text("{}")
    found = load_recovery(tmp_path, {}, ALONE)
    assert found is not None and found[0] == 1
    assert "step-000000002" in capsys.readouterr().err


def test_leftovers_of_a_crash_while_saving_do_no_harm(tmp_path: Path) -> None:
    save_recovery(tmp_path, 1, state(1), ALONE)
    (tmp_path / ".step-000000002.tmp").mkdir()
    (tmp_path / ".step-000000002.tmp" / "state.safetensors").write_bytes(b"half")
    found = load_recovery(tmp_path, {}, ALONE)
    assert found is not None and found[0] == 1
    save_recovery(tmp_path, 2, state(2), ALONE)
    found = load_recovery(tmp_path, {}, ALONE)
    assert found is not None and found[0] == 2
    save_recovery(tmp_path, 2, state(2.5), ALONE)
    found = load_recovery(tmp_path, {}, ALONE)
    assert found is not None and float(found[1]["b"]) == 2.5


def test_what_is_written_is_the_state_of_its_step_though_training_goes_on(tmp_path: Path) -> None:
    recovery, tensors = Recovery(tmp_path, ALONE), {"a": torch.ones(3_000_000), "b": torch.ones(1)}
    for step in (1, 2):  # the second time the copies are used again
        recovery.save(step, tensors)
        tensors["a"] += 1
        tensors["b"] += 1
        recovery.wait()
        found = recovery.load({})
        assert found is not None and found[0] == step
        assert float(found[1]["a"].min()) == float(found[1]["a"].max()) == float(found[1]["b"]) == step


def test_a_checkpoint_that_cannot_be_written_is_told_and_the_next_one_is_tried(tmp_path: Path) -> None:
    told: list[tuple[str, int, str]] = []
    recovery = Recovery(tmp_path / "recovery", ALONE, lambda *event: told.append(event))
    recovery.save(1, state(1))
    recovery.wait()
    (tmp_path / "recovery" / ".step-000000002.tmp").write_text("in the way of its folder")
    recovery.save(2, state(2))
    recovery.wait()
    assert [event[:2] for event in told] == [("saving", 2)] and "could not be written" in told[0][2]
    found = recovery.load({})
    assert found is not None and found[0] == 1
    (tmp_path / "recovery" / ".step-000000002.tmp").unlink()
    recovery.save(3, state(3))
    recovery.wait()
    found = recovery.load({})
    assert found is not None and found[0] == 3 and len(told) == 1


def test_metrics_that_a_full_disk_does_not_take_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl", 0)
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[:5])  # a part of it, as a disk does that fills up

    monkeypatch.setattr(os, "write", full)
    metrics.write(step=0, loss=1.0)
    monkeypatch.setattr(os, "write", write)
    metrics.write(step=1, loss=2.0)
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 2.0}]


def test_metrics_are_cut_back_to_the_step_that_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path, 0)
    for step in range(10):
        first.write(step=step, loss=float(step))
    with path.open("a") as file:
        file.write('{"step": 10, "lo')
    assert [line["step"] for line in read_metrics(path)] == list(range(10))
    second = Metrics(path, 6)
    second.write(step=6, loss=-1.0)
    assert [(line["step"], line["loss"]) for line in read_metrics(path)] == [
        *((n, float(n)) for n in range(6)),
        (6, -1.0),
    ]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_lost_metrics_file_is_an_empty_one(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_weight_decay_leaves_out_what_is_named() -> None:
    model = decoder()
    settings = Optimizer(weight_decay=0.3, no_weight_decay=["embed_tokens", "norm"])
    optimizer = make_optimizer(model, settings)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decays) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.0 if "embed_tokens" in name or "norm" in name else 0.3), name
    every = make_optimizer(model, settings.model_copy(update={"no_weight_decay": []}))
    assert [group["weight_decay"] for group in every.param_groups] == [0.3]
    set_learning_rate(optimizer, 0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


def test_the_optimizer_comes_back_bit_for_bit() -> None:
    tokens = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
        set_learning_rate(optimizer, 1e-3)
        optimizer.step()
        optimizer.zero_grad()

    model = decoder()
    optimizer = make_optimizer(model, Optimizer())
    assert optimizer_tensors(model, optimizer) == {}
    step(model, optimizer)
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(model, optimizer).items()}
    assert len(saved) == 3 * len(list(model.parameters()))
    copy = decoder()
    copy.load_state_dict(model.state_dict())
    other = make_optimizer(copy, Optimizer())
    load_optimizer(copy, other, saved)
    step(model, optimizer)
    step(copy, other)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, copy.get_parameter(name)), name


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch attacked",)


def test_a_plan_of_shards_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shards = tmp_path / "recovery/step-000000001/shards"
    save(
        {"model/a": torch.arange(4.0), "step/a": torch.ones(1, dtype=torch.bfloat16)},
        checkpoint_id=shards,
        no_dist=True,
    )
    plan = (shards / ".metadata").read_bytes()
    digests = {path.name: file_digest(path) for path in shards.iterdir()}
    for content in (plan, pickle.dumps(Attack())):
        (shards / ".metadata").write_bytes(content)
        digests[".metadata"] = file_digest(shards / ".metadata")
        state = {"step": 1, "sha256": {f"shards/{name}": digest for name, digest in digests.items()}}
        (shards.parent / "state.json").write_text(json.dumps(state))
        if content == plan:
            found = load_recovery(tmp_path / "recovery", {}, ALONE)
            assert found is not None and torch.equal(found[1]["model/a"], torch.arange(4.0))
        else:
            with pytest.raises(UserError, match="it names posix.system"):
                load_recovery(tmp_path / "recovery", {}, ALONE)
    assert not (tmp_path / "attacked").exists()
