"""Gradients that are skipped leave the weights, are told in the metrics, and end the training when they go on."""

import json
import math
from pathlib import Path

import pytest
import torch
from helpers.models import decoder
from helpers.trainers import trainer
from helpers.training import LENGTH, finished, make_artefacts, segment
from transformers import AutoModelForCausalLM, AutoTokenizer

from smolmake.errors import UserError
from smolmake.model.conversion import load_model
from smolmake.model.logits import check_logits
from smolmake.recipe.pretraining import Guard, Optimizer
from smolmake.train.optimizer import load_optimizer, make_optimizer, optimizer_tensors, set_learning_rate, slow_mean
from smolmake.train.spikes import GradientGuard

pytestmark = pytest.mark.usefixtures("handlers")

SETTINGS = Guard(skip_above=4.0, window=3, skips_in_a_row=2)


def test_a_spike_is_skipped_only_once_the_usual_is_known() -> None:
    guard = GradientGuard(SETTINGS)
    assert guard.judge(0, 1.0, 100.0, 1e-3) is None  # nothing is known yet
    assert [guard.judge(step, 1.0, 1.0, 1e-3) for step in (1, 2, 3)] == [None] * 3
    told = guard.judge(4, 1.0, 5.0, 1e-3)
    assert told is not None and "5.0 times" in told
    assert guard.judge(5, 1.0, 3.9, 1e-3) is None
    copy = GradientGuard(SETTINGS)
    copy.load(guard.tensors())
    assert copy.norms == guard.norms and copy.skipped == guard.skipped


def test_too_many_skips_end_the_training() -> None:
    guard = GradientGuard(SETTINGS)
    assert guard.judge(0, math.nan, 1.0, 1e-3) and guard.judge(1, 1.0, math.inf, 1e-3)
    with pytest.raises(UserError, match="at step 2, the 3th"):
        guard.judge(2, math.nan, math.nan, 1e-3)


def test_a_skipped_step_is_a_run_without_that_update(place: Path, tmp_path: Path) -> None:  # noqa: F811
    guarded = trainer(place, tmp_path / "a")
    guarded.guard = GradientGuard(SETTINGS)
    plain = trainer(place, tmp_path / "b")
    for step in range(3):
        guarded.step(step, 1e-3), plain.step(step, 1e-3)
    loss = guarded.model.loss
    guarded.forward = lambda last, *batch: loss(*batch) * 1e4  # a spike in step 3
    assert guarded.step(3, 1e-3).skipped is not None
    guarded.forward = lambda last, *batch: loss(*batch)
    for run in (guarded, plain):
        run.step(4, 1e-3)
    for name, parameter in guarded.model.named_parameters():
        assert torch.equal(parameter, plain.model.get_parameter(name)), name


def test_milestones_are_models_of_their_step(tmp_path: Path) -> None:
    make_artefacts(tmp_path)
    whole = finished(tmp_path, segment(0, 12, name="whole", milestones=[5, 8]))
    until = finished(tmp_path, segment(0, 8, steps=12, name="until"))
    assert sorted(folder.name for folder in (whole / "milestones").iterdir()) == ["step-5", "step-8"]
    found, expected = load_model(whole / "milestones" / "step-8"), load_model(until / "checkpoint")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    payload = json.loads((whole / "manifest.json").read_text())["payload"]
    assert "milestones/step-5/config.json" in payload
    assert found.config.max_position_embeddings == LENGTH
    for folder in (whole / "milestones" / "step-5", whole / "milestones" / "step-8", whole / "checkpoint"):
        read = AutoModelForCausalLM.from_pretrained(folder).eval()
        apart = check_logits(read, AutoTokenizer.from_pretrained(folder), folder)
        assert apart is not None and apart < 1e-4


@pytest.mark.parametrize("name", ["adamw", "muon", "ademamix"])
def test_each_optimizer_learns_and_comes_back_bit_for_bit(name: str) -> None:
    settings = Optimizer(name=name, alpha_warmup_steps=10, weight_decay=0.1)  # type: ignore[arg-type]
    tokens = torch.randint(0, 97, (4, 20), generator=torch.Generator().manual_seed(0))
    runs = []
    for resumed in (False, True):
        model = decoder(initializer_range=0.02)
        optimizer = make_optimizer(model, settings)
        losses = []
        for step in range(12):
            if resumed and step == 6:
                saved = {key: value.clone() for key, value in optimizer_tensors(model, optimizer).items()}
                optimizer = make_optimizer(model, settings)
                load_optimizer(model, optimizer, saved)
            set_learning_rate(optimizer, 3e-3)
            loss = model.loss(tokens[:, :-1], tokens[:, 1:]) / tokens[:, 1:].numel()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        runs.append(losses)
    assert runs[0] == runs[1] and runs[0][-1] < runs[0][0] - 0.3


def test_ademamix_follows_its_equations() -> None:
    assert slow_mean(10, 0.9, 0.9999, 5.0, 10) == (5.0, 0.9999)
    alpha, beta = slow_mean(5, 0.9, 0.9999, 5.0, 10)
    assert alpha == 2.5
    # The paper's beta3 at half the warm-up: exp(ln b1 ln b3 / (ln b3 / 2 + ln b1 / 2)).
    low, high = math.log(0.9), math.log(0.9999)
    assert beta == pytest.approx(math.exp(2 * low * high / (low + high)))
    parameter = torch.nn.Parameter(torch.tensor([[1.0]]))
    model = torch.nn.Module()
    model.weight = parameter
    optimizer = make_optimizer(model, Optimizer(name="ademamix", alpha=2.0, weight_decay=0.0))
    set_learning_rate(optimizer, 0.1)
    parameter.grad = torch.tensor([[0.5]])
    optimizer.step()
    assert float(parameter) == pytest.approx(1 - 0.1 * (0.5 + 2 * 0.0001 * 0.5) / (0.5 + 1e-8), rel=1e-5)
