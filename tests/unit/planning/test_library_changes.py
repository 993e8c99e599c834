"""The versions of libraries: in no identity unless a recipe says so, and never silent."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.fake_results import pretend_done
from helpers.recipes import SMALL, error_of, write_recipe

from smolmake.errors import UserError
from smolmake.execution import libraries
from smolmake.execution.job import Job
from smolmake.execution.kinds import script_of
from smolmake.execution.libraries import installed_versions
from smolmake.execution.step import PLAIN, Spec
from smolmake.planning.plan import Plan, make_plan
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import load_workflow

HEAD = "Finished with other versions of libraries than today's"
Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Gives libraries other versions."""
    real = libraries.metadata.version

    def other(**versions: str) -> None:
        monkeypatch.setattr(libraries.metadata, "version", lambda name: versions.get(name) or real(name))

    return other


@pytest.fixture
def small_tree(tree: Path, root: Path) -> Path:
    (tree / "envs").symlink_to(root / "envs")
    return tree


def plan_of(tree: Path, text: str = SMALL) -> Plan:
    return make_plan(load_workflow(str(write_recipe(tree, text)), tree))


def computed_with(tree: Path, pattern: str, **versions: str) -> None:
    """Finished steps that match were computed with other versions than today's."""
    found = list((tree / "results").glob(f"{pattern}/provenance.json"))
    assert found
    for file in found:
        about = json.loads(file.read_text())
        file.write_text(json.dumps(about | {"versions": installed_versions() | versions}))


def test_the_plan_tells_of_finished_steps_with_other_versions_and_runs_nothing(small_tree: Path) -> None:
    pretend_done(load_workflow(str(write_recipe(small_tree, SMALL)), small_tree))
    computed_with(small_tree, "*/*")
    assert HEAD not in plan_text(plan_of(small_tree))
    computed_with(small_tree, "segment/*", torch="2.0.0", numpy="1.0.0", snakemake="8.0", datasets="0.1")
    computed_with(small_tree, "documents/*", torch="2.0.0", numpy="1.0.0")
    plan, today = plan_of(small_tree), installed_versions()
    assert not plan.running
    told = plan_text(plan).split(HEAD)[1].splitlines()
    # Documents are cleaned without torch, segments are trained without datasets, and snakemake computes nothing.
    assert told[1:3] == [
        f"  numpy 1.0.0 → {today['numpy']}: 5 steps of segment, documents",
        f"  torch 2.0.0 → {today['torch']}: 3 steps of segment",
    ]
    changes = plan.as_json()["library_changes"]
    assert changes[1] == {"library": "torch", "before": "2.0.0", "now": today["torch"], "kinds": {"segment": 3}}
    # What is to run again is not used: it is not told of.
    again = plan_of(small_tree, SMALL.replace("lr: 1e-3", "lr: 2e-3"))
    assert {change.library: change.kinds for change in again.library_changes} == {"numpy": {"documents": 2}}


def test_a_recipe_makes_versions_of_a_kind_count(small_tree: Path, install: Install) -> None:
    counting = SMALL + "library_versions: {shards: [tokenizers, numpy]}\n"
    before = {
        step.label: step.id
        for step in load_workflow(str(write_recipe(small_tree, SMALL)), small_tree).steps.all.values()
    }
    workflow = load_workflow(str(write_recipe(small_tree, counting)), small_tree)
    after = {step.label: step.id for step in workflow.steps.all.values()}
    unchanged = {label.partition("/")[0] for label in after if after[label] == before[label]}
    assert unchanged == {"documents", "tokenizer", "tokenizer_comparison", "heldout"}
    pretend_done(workflow)
    install(torch="9.9.9")
    assert not plan_of(small_tree, counting).running
    numpy = installed_versions()["numpy"]
    install(numpy="9.9.9")
    plan = plan_of(small_tree, counting)
    assert {step.label for step in plan.running} == {label for label in after if after[label] != before[label]}
    assert {reason for reasons in plan.reasons.values() for reason in reasons} == {f"numpy {numpy} → 9.9.9"}
    pretend_done(plan.workflow)
    fewer = plan_of(small_tree, SMALL + "library_versions: {shards: [tokenizers]}\n")
    reason = "library_versions.shards ['numpy', 'tokenizers'] → ['tokenizers']"
    assert reason in {each for reasons in fewer.reasons.values() for each in reasons}


def test_a_library_that_is_not_installed_and_a_kind_that_there_is_not_are_refused(small_tree: Path) -> None:
    error = error_of(small_tree, SMALL + "library_versions: {segments: [torch]}\n")
    assert "no such kind" in error.what and "`segment`" in error.remedy
    with pytest.raises(UserError, match="no such library is installed") as caught:
        plan_of(small_tree, SMALL + "library_versions: {segment: [torch, flash-nothing]}\n")
    assert caught.value.key == "library_versions.segment" and caught.value.value == "flash-nothing"


def test_a_job_refuses_an_environment_that_is_not_the_planned_one(root: Path, tmp_path: Path) -> None:
    folder, script = tmp_path / "results" / "merge" / "merged-0123456789", script_of("merge", root)
    folder.mkdir(parents=True)
    versions = installed_versions(["torch"])
    job = Job("merge", "merged", "0123456789", folder, Spec(), {}, PLAIN, versions=versions)
    job.record_identity(script)
    assert json.loads((folder / "identity.json").read_text())["versions"] == versions
    with pytest.raises(UserError, match="other versions of libraries") as caught:
        Job("merge", "merged", "0", folder, Spec(), {}, PLAIN, versions={"torch": "0.1"}).record_identity(script)
    assert caught.value.key == "library_versions.merge"
