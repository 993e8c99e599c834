"""The packages left out of every fingerprint cannot change a result: without them, training gives the same bits."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.trainers import trainer
from helpers.training import make_artefacts

from smolmake.execution.fingerprint import NEUTRAL, SOURCE_ROOT
from smolmake.train import trainer as loop


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Silent:
    """Stands in for the journal, the recovery checkpoints and the measures inside a step, and does nothing."""

    def __init__(self, *args: Any) -> None:
        self.found: dict[str, Any] = {}

    asked = busy = False

    def load(self, *args: Any) -> None:
        return None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


def test_training_without_journal_measures_and_recovery_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_artefacts(tmp_path)
    measures = {"noise_scale_every": 2, "source_loss_every": 3, "micro_batch": 2}
    with_all = trainer(tmp_path, tmp_path / "with", recovery_every=1e-9, trackers=["tensorboard"], **measures)
    with_all.train()
    for name in ("Journal", "Recovery", "StopSignal", "Watch"):
        monkeypatch.setattr(loop, name, Silent)
    without = trainer(tmp_path, tmp_path / "without", micro_batch=2)
    without.train()
    assert (tmp_path / "with" / "metrics.jsonl").exists() and not any((tmp_path / "without").iterdir())
    for name, parameter in with_all.model.named_parameters():
        assert torch.equal(parameter, without.model.get_parameter(name)), name


@pytest.mark.parametrize("module", sorted(NEUTRAL))
def test_every_neutral_package_exists(module: str) -> None:
    place = SOURCE_ROOT / Path(*module.split("."))
    assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()
