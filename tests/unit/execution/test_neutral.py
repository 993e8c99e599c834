"""The packages left out of every fingerprint cannot change a result: without what they do, training gives the same
bits."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers.trainers import trainer

from smolmake.execution.fingerprint import NEUTRAL

PACKAGES = ("smolmake.monitoring", "smolmake.train.diagnostics", "smolmake.train.recovery")

pytestmark = pytest.mark.usefixtures("handlers")


class Silent:
    """Stands in for whatever these packages offer, and does nothing: nothing is measured, saved, found or requested."""

    values: dict[str, Any] = {}
    asked = busy = False

    def __init__(self, *args: Any, **more: Any) -> None: ...

    def load(self, *args: Any) -> None:
        return None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **more: None


def modules(package: str) -> list[ModuleType]:
    names = (found.name for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."))
    return [importlib.import_module(name) for name in names]


def test_training_without_the_neutral_packages_gives_the_same_bits(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures = {"noise_scale_every": 2, "source_loss_every": 3, "micro_batch": 2}
    with_all = trainer(place, tmp_path / "with", recovery_every=1e-9, trackers=["tensorboard"], **measures)
    with_all.train()
    silenced = {
        member
        for package in PACKAGES
        for module in modules(package)
        for member in vars(module).values()
        if getattr(member, "__module__", "") == module.__name__ and callable(member)
    }
    for module in [module for name, module in sys.modules.items() if name.startswith("smolmake.")]:
        for name, member in list(vars(module).items()):
            if isinstance(member, type | Callable) and member in silenced:
                monkeypatch.setattr(module, name, Silent)
    without = trainer(place, tmp_path / "without", micro_batch=2)
    without.train()
    assert (tmp_path / "with" / "metrics.jsonl").exists() and not any((tmp_path / "without").iterdir())
    for name, parameter in with_all.model.named_parameters():
        assert torch.equal(parameter, without.model.get_parameter(name)), name


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_whatever_is_neutral_exists(name: str) -> None:
    assert importlib.util.find_spec(name) is not None
