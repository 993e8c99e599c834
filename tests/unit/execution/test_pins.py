"""Pins keep a result although its code has changed, and nothing else."""

import json
from pathlib import Path

import pytest
from helpers.recipes import SMALL, write_recipe

from smolmake.errors import UserError
from smolmake.execution.manifest import MANIFEST, RECORD
from smolmake.execution.step import Step
from smolmake.graph.specs.evaluate import ReportSpec
from smolmake.planning.plan import make_plan
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import Workflow, load_workflow

OLD = "0123456789"


def workflow(tree: Path, text: str = SMALL) -> Workflow:
    return load_workflow(str(write_recipe(tree, text)), tree)


def finish(tree: Path, step: Step, identity: str, config_hash: str | None = None) -> Path:
    """A finished result of the step under another id, as code of another day left it."""
    folder = tree / "results" / f"{step.label}-{identity}"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps({"config_hash": config_hash or step.config_hash}))
    (folder / MANIFEST).write_text("{}")
    return folder


def pin(tree: Path, label: str, identity: str = OLD, reason: str = "only a log line changed") -> None:
    file = tree / "config" / "pins" / "small.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"- {{step: {label}, id: '{identity}', reason: {reason}}}\n")


def error(tree: Path, text: str = SMALL) -> UserError:
    with pytest.raises(UserError) as caught:
        workflow(tree, text)
    assert caught.value.remedy and "pins" in str(caught.value.file)
    return caught.value


def test_a_pinned_step_keeps_its_result_and_what_follows_builds_on_it(tree: Path) -> None:
    before = workflow(tree).steps
    first, second = before.of_kind("segment")[:2]
    finish(tree, first, OLD)
    pin(tree, first.label)
    pinned = workflow(tree)
    kept, after = pinned.steps.of_kind("segment")[:2]
    assert kept.id == OLD and kept.manifest == f"results/segment/{first.name}-{OLD}/manifest.json"
    assert after.inputs["parent"] is kept and after.id != second.id
    plan = make_plan(pinned)
    assert kept.key not in plan.keys and after.key in plan.keys
    assert "only a log line changed" in plan_text(plan) and first.label in plan_text(plan)
    assert plan.as_json()["pins"] == [{"step": first.label, "id": OLD, "reason": "only a log line changed"}]


def test_the_report_is_written_again_when_a_pin_is_set_or_its_reason_changes(tree: Path) -> None:
    step = workflow(tree).steps.of_kind("segment")[0]
    finish(tree, step, OLD)
    reports = []
    for reason in ("only a log line changed", "the same numbers"):
        pin(tree, step.label, reason=reason)
        (report,) = workflow(tree).steps.of_kind("report")
        assert report.spec_as(ReportSpec).pins == {step.label: reason}
        reports.append(report.id)
    assert len(set(reports)) == 2


def test_a_pin_that_names_what_the_step_is_anyway_does_nothing(tree: Path) -> None:
    step = workflow(tree).steps.of_kind("segment")[0]
    pin(tree, step.label, step.id)
    assert workflow(tree).steps.of_kind("segment")[0].pin is None


def test_a_pin_without_its_result_is_refused(tree: Path) -> None:
    pin(tree, workflow(tree).steps.of_kind("segment")[0].label)
    assert "cannot be made again" in error(tree).what


def test_a_pin_does_not_hide_a_change_of_the_recipe(tree: Path) -> None:
    step = workflow(tree).steps.of_kind("segment")[0]
    finish(tree, step, OLD)
    pin(tree, step.label)
    workflow(tree)
    assert "another recipe" in error(tree, SMALL.replace("lr: 1e-3", "lr: 2e-3")).what


def test_a_pin_of_no_step_names_the_nearest(tree: Path) -> None:
    pin(tree, "segment/stage1-0-11")
    assert "segment/stage1-0-10" in error(tree).remedy


@pytest.mark.parametrize(
    "text",
    [
        "step: segment/x",
        "- {step: segment/x, id: '0123456789'}",
        "- {step: ../x, id: '0123456789', reason: y}",
        "- {step: segment/x, id: short, reason: y}",
        "- {step: segment/x, id: '0123456789', reason: ' '}",
        "- {step: segment/x, id: '0123456789', reason: y}\n- {step: segment/x, id: '0123456789', reason: y}",
        "- !!python/object/apply:os.getcwd []",
    ],
)
def test_a_file_of_pins_that_is_not_one_is_refused(tree: Path, text: str) -> None:
    file = tree / "config" / "pins" / "small.yaml"
    file.parent.mkdir()
    file.write_text(text)
    error(tree)
