"""A finished step whose files are gone runs again for what is to read them, and the plan says so with its price."""

import json
from pathlib import Path

import pytest
from helpers.recipes import SMALL, write_recipe

from smolmake.errors import UserError
from smolmake.execution.manifest import MANIFEST, REMOVED, note_removed
from smolmake.execution.remote_storage import REMOTE
from smolmake.execution.step import Step
from smolmake.files import write_json
from smolmake.planning.optimizer_states import OPTIMIZER_STATE
from smolmake.planning.plan import make_plan
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import Workflow, load_workflow

MILESTONES = SMALL.replace("segment_steps: 10", "segment_steps: 10\n  milestone_steps: 4")
WEIGHTS = "checkpoint/model.safetensors"


def workflow(tree: Path, text: str = SMALL) -> Workflow:
    return load_workflow(str(write_recipe(tree, text)), tree)


def finish(tree: Path, *steps: Step, files: tuple[str, ...] = (WEIGHTS, OPTIMIZER_STATE)) -> None:
    for step in steps:
        folder = tree / "results" / step.key
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")
        write_json(folder / MANIFEST, {"payload": dict.fromkeys(files, {"bytes": 1}), "facts": {}})


def finish_all(tree: Path, made: Workflow, *leave_out: str) -> None:
    finish(tree, *(step for step in made.steps.all.values() if step.kind not in leave_out))


def running(made: Workflow) -> set[str]:
    return {step.label for step in make_plan(made).running}


def test_milestones_asked_for_after_training_mean_their_segments(tree: Path) -> None:
    finish_all(tree, workflow(tree))
    made = workflow(tree, MILESTONES)
    first, second, third = made.steps.of_kind("segment")
    plan = make_plan(made)
    evaluations = {f"evaluation/stage1-at-{at}" for at in (4, 8, 12, 16)} | {
        f"evaluation/stage2-at-{at}" for at in (24, 28)
    }
    assert running(made) == {first.label, second.label, third.label, *evaluations, "report/small"}
    assert plan.costs[first.key].tokens == 10 * 4 * 64 and first.key not in plan.done
    assert "milestones that were not kept when their segments were trained: 10 steps" in plan_text(plan)
    evaluation = next(step for step in made.steps.of_kind("evaluation") if step.name == "stage1-at-12")
    assert made.repeated_for(evaluation) == {first.manifest, second.manifest} and not made.repeated_for(second)
    assert made.inputs(second, "parent") == [first.manifest] and not made.finished(first)
    for segment in (first, second, third):
        kept = tuple(f"milestones/step-{at}/model.safetensors" for at in (4, 8, 12, 16, 24, 28))
        finish(tree, segment, files=(WEIGHTS, OPTIMIZER_STATE, *kept))
    assert running(workflow(tree, MILESTONES)) == {*evaluations, "report/small"}


def test_a_lost_file_means_its_step_where_something_is_to_read_it(tree: Path) -> None:
    made = workflow(tree)
    finish_all(tree, made)
    first, second, third = made.steps.of_kind("segment")
    lost = tree / "results" / second.key / WEIGHTS
    lost.unlink()
    assert running(workflow(tree)) == set()  # nobody reads it any more
    (tree / "results" / third.manifest.removeprefix("results/")).unlink()
    again = workflow(tree)
    plan = make_plan(again)
    assert {step.label for step in plan.running} == {second.label, third.label}
    assert f"{second.label}: {WEIGHTS} is gone" in plan_text(plan)
    write_json(lost.parents[1] / REMOTE, {"url": "memory://x", "files": [WEIGHTS]})
    assert running(workflow(tree)) == {third.label}
    (lost.parents[1] / REMOTE).unlink()
    note_removed(lost.parents[1], {WEIGHTS}, "on purpose")
    assert running(workflow(tree)) == {third.label}


def test_lost_shards_behind_a_finished_mixture_are_made_again(tree: Path) -> None:
    made = workflow(tree)
    finish_all(tree, made, "segment", "evaluation", "report")
    (shards,) = [step for step in made.steps.of_kind("shards") if step.name == "notes"]
    (tree / "results" / shards.key / WEIGHTS).unlink()
    assert {shards.label, "mixture/stage1", "mixture/stage2"} <= running(workflow(tree))
    (tree / shards.manifest).unlink()
    assert {shards.label, "mixture/stage1", "mixture/stage2"} <= running(workflow(tree))
    finish(tree, shards)
    assert not {shards.label, "mixture/stage1", "mixture/stage2"} & running(workflow(tree))


def test_a_segment_that_is_to_run_again_needs_the_optimizer_state_before_it(tree: Path) -> None:
    made = workflow(tree)
    finish_all(tree, made)
    first, *_ = made.steps.of_kind("segment")
    folder = tree / "results" / first.key
    note_removed(folder, {OPTIMIZER_STATE}, "spare")
    (folder / OPTIMIZER_STATE).unlink()
    assert running(workflow(tree)) == set()
    with pytest.raises(UserError, match="goes on from an optimizer state that was removed"):
        workflow(tree, MILESTONES)
    assert (folder / REMOVED).is_file()


def test_a_training_under_way_has_passed_milestones(tree: Path) -> None:
    first, *_ = workflow(tree).steps.of_kind("segment")
    folder = tree / "results" / first.key
    (folder / "recovery" / "step-6").mkdir(parents=True)
    (folder / "identity.json").write_text(json.dumps({}))
    told = plan_text(make_plan(workflow(tree, MILESTONES)))
    assert f"Warning: {first.key} goes on from step 6 and has passed milestones" in told and "(4)" in told
    (folder / "milestones" / "step-4").mkdir(parents=True)
    assert "has passed" not in plan_text(make_plan(workflow(tree, MILESTONES)))
