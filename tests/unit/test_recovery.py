"""Recovery checkpoints, metrics and the optimizer's state survive what a crash leaves behind."""

import json
from pathlib import Path

import pytest
import torch
from models import decoder

from smolmake.recipe.training import Optimizer
from smolmake.train.metrics import Metrics, read_metrics
from smolmake.train.optimizer import load_optimizer, make_optimizer, optimizer_tensors, set_learning_rate
from smolmake.train.parallel import Group
from smolmake.train.recovery import load_recovery, save_recovery

ALONE = Group(torch.device("cpu"))


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
    settings = Optimizer(weight_decay=0.3, no_weight_decay=["embed_tokens", "norm"]).model_dump()
    optimizer = make_optimizer(model, settings)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decays) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.0 if "embed_tokens" in name or "norm" in name else 0.3), name
    every = make_optimizer(model, settings | {"no_weight_decay": []})
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
    optimizer = make_optimizer(model, Optimizer().model_dump())
    assert optimizer_tensors(model, optimizer) == {}
    step(model, optimizer)
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(model, optimizer).items()}
    assert len(saved) == 3 * len(list(model.parameters()))
    copy = decoder()
    copy.load_state_dict(model.state_dict())
    other = make_optimizer(copy, Optimizer().model_dump())
    load_optimizer(copy, other, saved)
    step(model, optimizer)
    step(copy, other)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, copy.get_parameter(name)), name
