"""The modules left out of every fingerprint cannot change a result: without them, training gives the same bits."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import trainer
from training import make_artefacts

from smolmake.identity.fingerprint import NEUTRAL, SOURCE_ROOT
from smolmake.train import loop


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Silent:
    """Stands in for the metrics file and the progress bar, and does nothing."""

    def __init__(self, *args: Any) -> None:
        pass

    asked = False

    def readings(self, *args: Any) -> dict[str, Any]:
        return {}

    def write(self, **values: Any) -> None:
        pass

    def add(self, *args: Any) -> None:
        pass


def test_training_without_metrics_progress_and_recovery_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_artefacts(tmp_path)
    with_all = trainer(tmp_path, tmp_path / "with", recovery_every=1e-9)
    with_all.train()
    monkeypatch.setattr(loop, "Metrics", Silent)
    monkeypatch.setattr(loop, "Progress", Silent)
    monkeypatch.setattr(loop, "Telemetry", Silent)
    monkeypatch.setattr(loop, "StopSignal", Silent)
    monkeypatch.setattr(loop, "save_recovery", Silent)
    monkeypatch.setattr(loop, "load_recovery", lambda *args: None)
    without = trainer(tmp_path, tmp_path / "without", recovery_every=1e-9)
    without.train()
    assert (tmp_path / "with" / "metrics.jsonl").exists() and not any((tmp_path / "without").iterdir())
    for name, parameter in with_all.model.named_parameters():
        assert torch.equal(parameter, without.model.get_parameter(name)), name


@pytest.mark.parametrize("module", sorted(NEUTRAL))
def test_every_neutral_module_exists(module: str) -> None:
    place = SOURCE_ROOT / Path(*module.split("."))
    assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()
