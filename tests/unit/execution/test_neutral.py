"""The packages left out of every fingerprint cannot change a result: without what they do, training gives the same
bits."""

import ast
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

from smolmake.execution.fingerprint import NEUTRAL, SOURCE_ROOT

PACKAGES = ("smolmake.monitoring", "smolmake.train.diagnostics", "smolmake.train.recovery")

pytestmark = pytest.mark.usefixtures("handlers")


class Silent:
    """Stands in for whatever these packages offer, and does nothing: nothing is measured, saved, found or requested."""

    values: dict[str, Any] = {}
    requested = busy = False

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


# What code that counts takes from neutral packages, and why no result depends on how these make it.
TAKEN = {
    "tells, and gives nothing back": {"RunLog", "Metrics", "Progress", "StepDiagnostics", "UserError", "did_you_mean"},
    "starts a step": {"run_step", "run_as_program", "stay_offline"},
    "a place, or a copy of the same bytes": {"MANIFEST", "RECORD", "METRICS", "part_folder", "scratch_folder", "stage"},
    "checks files, or says what a manifest says": {
        "check_disk_space",
        "verify_payload",
        "payload_under",
        "read_manifest",
        "part_record",
    },
    "a digest of content": {"content_digest", "code_digests", "listing_digest", "tasks_digest"},
    "has Python run what the source says": {"check_by_content"},
    "what a search of the same files found before": {"remember", "remembered"},
    "a finished step of the same kind and id, under another name": {"other_names"},
    "versions that a recipe has count, which join the identity": {"counted_versions"},
    "a state as it was saved": {"Recovery", "StopSignal", "Uploads"},
    "reads a recipe, whose values stand in specs": {"Ambiguous", "line_of", "read_yaml"},
    "what steps are, for the graph": {"Job", "Step", "Steps", "Spec", "Run", "Place", "KINDS", "read_pins"},
    "for preflight, on which no result depends": {"CHECKS", "peak_of", "read_metrics", "machine"},
}


def is_neutral(module: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in NEUTRAL)


def test_what_counts_takes_nothing_of_a_result_from_what_does_not(root: Path) -> None:
    """A name that is new here needs a reason in the table; the report shows what the others tell."""
    taken = set()
    for file in [*(SOURCE_ROOT / "smolmake").rglob("*.py"), *(root / "workflow" / "scripts").glob("*.py")]:
        inside = SOURCE_ROOT in file.parents
        module = ".".join(file.relative_to(SOURCE_ROOT).with_suffix("").parts) if inside else file.stem
        if is_neutral(module) or module in ("report", "link_results", "smolmake.cli") or ".report." in module:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and is_neutral(node.module or ""):
                taken |= {alias.name for alias in node.names}
            assert not (isinstance(node, ast.Import) and any(is_neutral(alias.name) for alias in node.names)), file
    assert taken <= set().union(*TAKEN.values())
