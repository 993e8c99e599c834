"""The plan's parts: costs from the recipe, the budget, wall-clock, and what is refused before anything starts."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.recipes import SMALL, changed, write_recipe

from smolmake.errors import UserError
from smolmake.execution.content_hash import content_digest
from smolmake.files import write_json
from smolmake.planning.budget import check_budget
from smolmake.planning.checks import repeat_warnings
from smolmake.planning.plan import make_plan
from smolmake.planning.reasons import NEW, UNFINISHED
from smolmake.planning.requests import beyond_machine, check_one_machine, gpus_here
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import Workflow, job_environment, load_workflow

GPUS = """
runtime:
  micro_batch: 2
  layouts: {pretraining: {nodes: 1, gpus_per_node: 2, micro_batch: 2}}
cost:
  gpu: h100
  mfu: 0.5
  goodput: 0.8
  price_per_gpu_hour: 2
  budget: {gpu_hours: 1}
"""


def workflow(tree: Path, text: str) -> Workflow:
    return load_workflow(str(write_recipe(tree, text)), tree)


def refused(tree: Path, text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        workflow(tree, text)
    assert caught.value.remedy and len(str(caught.value).splitlines()) <= 8, str(caught.value)
    return caught.value


def test_gpu_hours_follow_from_flops_peak_mfu_and_goodput(tree: Path) -> None:
    plan = make_plan(workflow(tree, SMALL + GPUS))
    segments = [step for step in plan.running if step.kind == "segment"]
    tokens = 30 * 4 * 64
    # Two layers of width 32: attention 2 x 32 x (32 + 16), feed-forward 3 x 32 x 64, norms; tied table 512 x 32.
    parameters = 512 * 32 + 2 * (2 * 32 * (32 + 16) + 3 * 32 * 64 + 2 * 32) + 32
    flops = tokens * (6 * parameters + 12 * 2 * 32 * 64)
    assert sum(plan.costs[step.key].tokens for step in segments) == tokens
    assert sum(plan.costs[step.key].flops for step in segments) == pytest.approx(flops)
    assert plan.gpu_hours == pytest.approx(flops / (989.4e12 * 0.5 * 0.8) / 3600)
    assert plan.money(plan.gpu_hours) == pytest.approx(plan.gpu_hours * 2)


def test_processes_on_the_cpu_book_no_gpus(tree: Path) -> None:
    plan = make_plan(workflow(tree, changed("micro_batch: 2\n", "micro_batch: 2\n  device: cpu\n", SMALL + GPUS)))
    segment = next(step for step in plan.running if step.kind == "segment")
    assert (segment.run.gpus, segment.run.gpus_per_node, plan.gpu_hours) == (0, 2, 0)
    assert plan.costs[segment.key].hours
    assert not beyond_machine(plan.running, 0) and gpus_here(segment, 8) == 0
    assert "refused" not in plan_text(replace(plan, machine=0))


def test_what_this_machine_cannot_give_is_told_and_refused(tree: Path) -> None:
    plan = make_plan(workflow(tree, SMALL + GPUS))
    told = "A run here would be refused: this machine has 1 GPU for jobs; preflight/pretraining needs 2 GPUs, and "
    assert told in plan_text(replace(plan, machine=1))
    assert "here" not in plan_text(plan) and "refused" not in plan_text(replace(plan, machine=2))
    with pytest.raises(UserError, match="needs 2 GPUs, and this machine has no GPUs for jobs") as caught:
        check_one_machine(plan.running, 0)
    assert (caught.value.key, caught.value.value) == ("runtime.layouts", "gpus_per_node: 2")
    check_one_machine(plan.running, 2)


def test_a_small_recipe_is_told_how_to_leave_the_preflight_out(tree: Path) -> None:
    told = "1 preflight of about a minute before training: "
    assert told in plan_text(make_plan(workflow(tree, SMALL + GPUS)))
    without = SMALL + GPUS.replace("micro_batch: 2\n", "micro_batch: 2\n  preflight: {when: never}\n", 1)
    assert "preflight" not in plan_text(make_plan(workflow(tree, without)))


def test_jobs_without_gpus_in_their_layout_take_one_where_there_is_one(tree: Path) -> None:
    plan = make_plan(workflow(tree, SMALL))
    taken = {step.kind: gpus_here(step, 4) for step in plan.running}
    assert taken["segment"] == taken["evaluation"] == 1 and taken["tokenizer"] == taken["shards"] == 0
    assert not any(gpus_here(step, 0) for step in plan.running)
    assert "take one of this machine's 4 for a while and book no GPU-hours" in plan_text(replace(plan, machine=4))
    only = make_plan(workflow(tree, SMALL + "runtime: {device: cuda}\n"))
    assert "device: cuda" in {value for _, _, value in beyond_machine(only.running, 0)}.pop()


def test_the_critical_path_is_a_chain_and_wall_clock_at_least_its_length(tree: Path) -> None:
    plan = make_plan(workflow(tree, SMALL + GPUS))
    chain = plan.critical_path
    for before, after in zip(chain, chain[1:], strict=False):
        assert before in after.inputs.values()
    length = sum(plan.costs[step.key].hours or 0.0 for step in chain)
    assert plan.hours == pytest.approx(length, rel=1e-6) or plan.hours > length


def test_fewer_gpus_than_asked_for_make_it_longer(tree: Path) -> None:
    """Two evaluations that each take all GPUs run one after the other, with twice the GPUs side by side."""
    suites = "evaluation: {suites: {a: {tasks: [piqa], tokens: 9T}, b: {tasks: [mmlu], tokens: 9T}}}\n"
    text = SMALL + GPUS.replace("layouts: {", "layouts: {evaluation: {gpus_per_node: 2}, ") + suites
    narrow = make_plan(workflow(tree, text.replace("gpu: h100", "gpu: h100\n  gpus: 2")))
    wide = make_plan(workflow(tree, text))
    assert narrow.gpu_hours == wide.gpu_hours
    assert narrow.hours > 1.8 * wide.hours
    assert replace(wide, machine=2).hours > 1.8 * wide.hours
    assert replace(wide, machine=64).hours == pytest.approx(wide.hours)


def test_over_budget_nothing_starts_without_consent(tree: Path) -> None:
    over = SMALL.replace("steps: 20", "steps: 20T") + GPUS
    over = over.replace("segment_steps: 10", "segment_steps: 10T")
    plan = make_plan(workflow(tree, over))
    assert plan.gpu_hours > 500
    assert "OVER: it would not start" in plan_text(plan)
    with pytest.raises(UserError) as caught:
        check_budget(plan, None)
    assert caught.value.key == "cost.budget.gpu_hours" and "consent=" in caught.value.remedy
    with pytest.raises(UserError):
        check_budget(plan, plan.gpu_hours / 2)
    check_budget(plan, plan.gpu_hours + 1)
    check_budget(make_plan(workflow(tree, SMALL + GPUS)), None)
    money = make_plan(workflow(tree, over.replace("{gpu_hours: 1}", "{money: 5}")))
    with pytest.raises(UserError, match="USD"):
        check_budget(money, None)


def test_a_small_excess_keeps_two_digits_and_the_plan_says_how_to_consent(tree: Path) -> None:
    plan = make_plan(workflow(tree, SMALL + GPUS.replace("{gpu_hours: 1}", "{gpu_hours: 0}")))
    with pytest.raises(UserError, match=r"would take \d(\.\d)?e-\d+ GPU-hours, 0 are spent") as caught:
        check_budget(plan, None)
    assert "smolmake run config/recipes/mine.yaml --consent 1" in caught.value.remedy
    assert "over budget: this run would take" in plan_text(plan) and "--consent 1" in plan_text(plan)


def test_only_what_was_begun_goes_on(tree: Path) -> None:
    made = workflow(tree, SMALL)
    begun, *others = made.steps.of_kind("evaluation")
    write_json(tree / "results" / begun.key / "identity.json", {})
    plan = make_plan(made)
    assert plan.reasons[begun.key] == (UNFINISHED,)
    assert others and all(plan.reasons[step.key] == (NEW,) for step in plan.running if step is not begun)


def finished(tree: Path, key: str, seconds: float, recipe: str, gpus: int = 0) -> None:
    write_json(tree / "results" / key / "manifest.json", {})
    about = {"seconds": seconds, "recipe": recipe, "gpus": gpus}
    write_json(tree / "results" / key / "provenance.json", about)


def test_the_time_of_an_evaluation_is_what_one_took_or_is_not_counted(tree: Path) -> None:
    made = workflow(tree, SMALL)
    first, *others = made.steps.of_kind("evaluation")
    before = make_plan(made)
    assert set(before.unknown) == {first, *others}
    assert f"without {len(others) + 1} steps of evaluation, whose time is not known yet;" in plan_text(before)
    finished(tree, "evaluation/base-0123456789", 3600.0, "another")
    assert {make_plan(made).costs[step.key].hours for step in (first, *others)} == {1.0}
    finished(tree, first.key, 7200.0, "small")
    after = make_plan(made)
    assert {after.costs[step.key].hours for step in others} == {2.0} and not after.unknown
    assert after.hours >= 2.0 and "not known yet" not in plan_text(after)


def test_a_suite_is_priced_by_its_tokens_until_one_has_run(tree: Path) -> None:
    suites = "evaluation: {suites: {a: {tasks: [piqa], tokens: 9M, answer_tokens: 160k, on: stage_ends}}}\n"
    text = SMALL + GPUS.replace("layouts: {", "layouts: {evaluation: {gpus_per_node: 1}, ") + suites
    made = workflow(tree, text)
    plan = make_plan(made)
    first, *others = made.steps.of_kind("suite")
    layers, batches = 2, 160_000 / 16
    assert plan.costs[first.key].hours == pytest.approx(batches * layers * 1e-3 / 3600, rel=0.05)  # reading is little
    assert {step.key for steps in plan.uncertain.values() for step in steps} == {step.key for step in (first, *others)}
    assert "of these GPU-hours, 2 steps of suite: tokens as the recipe estimates them" in plan_text(plan)
    finished(tree, first.key, 7200.0, "small", gpus=1)
    after = make_plan(made)
    assert {after.costs[step.key].hours for step in others} == {2.0} and not after.uncertain
    wrong = SMALL + suites.replace("tokens: 9M, answer_tokens: 160k, ", "")
    assert {step.kind for step in make_plan(workflow(tree, wrong)).unknown} >= {"suite"}


def test_tokens_that_are_guessed_from_rows_are_uncertain(tree: Path) -> None:
    chat = "loss: all, chat_template: chatml.jinja, learning_rate: 1e-3, global_batch_size: 4, max_length: 64"
    sft = f"sft: {{{chat}, data: {{a: {{hub: a/b, rows: 1M}}}}}}\n"
    text = SMALL + GPUS.replace("layouts: {", "layouts: {sft: {gpus_per_node: 1}, ") + sft
    plan = make_plan(workflow(tree, text))
    assert "uncertain   " in plan_text(plan) and "1 step of posttraining: tokens guessed from rows" in plan_text(plan)
    assert not make_plan(workflow(tree, text.replace("rows: 1M", "rows: 1M, tokens: 30M"))).uncertain


def test_far_too_many_repetitions_are_told_before_anything_runs(tree: Path) -> None:
    tokens = 30 * 4 * 64  # of which notes has 0.4 and code 0.6
    text = SMALL.replace("notes.txt}", f"notes.txt, tokens: {tokens // 10}}}", 1)
    text = text.replace("notes.txt, domain", f"notes.txt, tokens: {tokens // 4}, domain")
    within = workflow(tree, text)
    assert repeat_warnings(within.recipe, within.steps, set(within.steps.all)) == []
    made = workflow(tree, text.replace("name: small", "name: small\nseed: 1").replace("domain: code", "max_epochs: 1"))
    plan = make_plan(made)
    (told,) = repeat_warnings(made.recipe, made.steps, plan.keys)
    assert told.startswith("the source `code` would be seen about 2 times by the end of stage2") and "is 1" in told
    assert f"Warning: {told}" in plan_text(plan)
    (epochs,) = made.steps.of_kind("epochs")
    assert repeat_warnings(made.recipe, made.steps, plan.keys - {epochs.key}) == []  # counted exactly by then


def test_budget_lines_are_summed_from_their_inputs(tree: Path) -> None:
    lines = "{gpu_hours: 1, lines: {main: {gpus: 384, days: 30}, evaluation: {runs: 100, gpu_hours_each: 1.5}}}"
    text = plan_text(make_plan(workflow(tree, SMALL + GPUS.replace("{gpu_hours: 1}", lines))))
    assert "276,480" in text and "276,630" in text


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("gpu: h100", "gpu: h1000", "cost.gpu"),
        ("micro_batch: 2}}", "micro_batch: 3}}", "runtime.layouts.pretraining.micro_batch"),
        ("gpus_per_node: 2", "gpus_per_node: 2, context_parallel: 3", "runtime.layouts.pretraining.context_parallel"),
        ("gpus_per_node: 2", "gpus_per_node: 3, context_parallel: 3", "runtime.layouts.pretraining.context_parallel"),
        ("layouts: {", "layouts: {sft: {gpus_per_node: 8, strategy: hsdp}, ", "runtime.layouts.sft.strategy"),
        (
            "layouts: {",
            "layouts: {apo: {gpus_per_node: 8, context_parallel: 2}, ",
            "runtime.layouts.apo.context_parallel",
        ),
        ("num_key_value_heads: 1", "num_key_value_heads: 1, parameters: 50k", "model.parameters"),
        ("hidden_size: 32", "hidden_size: 65536", "runtime.layouts.pretraining"),
        ("warmup_steps: 2, decay_steps: 5", "warmup_steps: 20, decay_steps: 15", "pretraining.schedule"),
        ("name: stage2, steps: 10", "name: stage2, starts_at: 15, steps: 10", "pretraining.stages.1.starts_at"),
    ],
    ids=["gpu", "batch", "context", "length", "post-training", "whole rows", "parameters", "memory", "spans", "stages"],
)
def test_what_cannot_be_is_refused_with_key_and_remedy(tree: Path, old: str, new: str, key: str) -> None:
    assert refused(tree, changed(old, new, SMALL + GPUS)).key == key


def test_a_parameter_target_within_its_tolerance_is_met(tree: Path) -> None:
    text = SMALL.replace("num_key_value_heads: 1", "num_key_value_heads: 1, parameters: 36000")
    workflow(tree, text.replace("parameters: 36000", "parameters: 36000, parameters_tolerance: 0.05"))
    error = refused(tree, text)
    tolerance = error.remedy.rpartition("parameters_tolerance: ")[2].strip("`")
    workflow(tree, text.replace("parameters: 36000", f"parameters: 36000, parameters_tolerance: {tolerance}"))


def test_an_adopted_folder_must_be_what_the_recipe_says(tree: Path) -> None:
    folder = tree / "shards"
    folder.mkdir()
    (folder / "tokens.bin").write_bytes(b"1234")
    digest = content_digest("shards", tree)

    def adopting(path: str, value: str) -> str:
        return SMALL.replace("{path: notes.txt}", f"{{path: notes.txt, shards: {{path: {path}, digest: {value}}}}}")

    adopted = workflow(tree, adopting("shards", digest)).steps
    assert [step.name for step in adopted.of_kind("adopted")] == ["notes"]
    assert [step.name for step in adopted.of_kind("shards")] == ["code"]
    assert refused(tree, adopting("shards", "a" * 64)).key == "sources.notes.shards.digest"
    assert refused(tree, adopting("nowhere", digest)).key == "sources.notes.shards.path"
    (tree / "moved").symlink_to(folder)
    assert {s.id for s in workflow(tree, adopting("moved", digest)).steps.of_kind("adopted")} == {
        s.id for s in adopted.of_kind("adopted")
    }
    (folder / "tokens.bin").write_bytes(b"1235")
    assert refused(tree, adopting("shards", digest)).key == "sources.notes.shards.digest"


def test_jobs_find_this_python_and_keep_its_bytecode(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PATH", "/bin")
    for name in ("PYTHONPATH", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "executable", "/somewhere/bin/python")
    environment = job_environment(tree)
    assert environment["PATH"] == "/somewhere/bin:/bin" and environment["PYTHONPATH"] == str(tree / "src")
    assert not environment["PYTHONDONTWRITEBYTECODE"]


def test_the_plan_says_what_is_read_of_every_dataset_and_what_is_passed_over(tree: Path) -> None:
    for name in ("a.jsonl", "b.JSON", "deep/c.csv"):
        (tree / "rows" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "rows" / name).write_text("text\nrow\n" if name.endswith("csv") else '{"text": "row"}\n')
    for name in ("README.md", "LICENSE", "dataset_infos.json", ".gitattributes"):
        (tree / "rows" / name).write_text("about the rows")
    plan = make_plan(workflow(tree, changed("{path: notes.txt}", "{path: rows}")))
    about = plan.as_json()["data"]["sources.notes"]
    assert about["files"] == {"csv": 1, "json": 1, "jsonl": 1} and len(about["passed_over"]) == 3
    text = plan_text(plan)
    assert "  sources.notes: 1 csv, 1 json, 1 jsonl (rows)\n" in text
    assert "    2 passed over, notes and scripts beside files of rows: LICENSE, README.md\n" in text
    assert "    1 passed over, hidden: .gitattributes\n" in text


def test_a_file_name_that_is_not_utf_8_ends_the_plan_on_one_screen(tree: Path) -> None:
    (tree / "rows").mkdir()
    Path(os.fsdecode(os.fsencode(tree / "rows") + b"/caf\xe9.txt")).write_text("text")
    assert "not UTF-8" in refused(tree, changed("{path: notes.txt}", "{path: rows}")).what


def test_a_change_of_what_is_passed_over_changes_no_step(tree: Path) -> None:
    (tree / "rows").mkdir()
    (tree / "rows" / "a.jsonl").write_text('{"text": "row"}\n')
    text = changed("{path: notes.txt}", "{path: rows}")
    before = set(workflow(tree, text).steps.all)
    (tree / "rows" / "README.md").write_text("about")
    assert set(workflow(tree, text).steps.all) == before
    (tree / "rows" / "b.jsonl").write_text('{"text": "row"}\n')
    assert set(workflow(tree, text).steps.all) != before
