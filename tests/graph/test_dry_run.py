"""Dry runs by the real Snakemake: one graph from both Snakefiles, and mistakes told before anything starts."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.workflow_runs import SNAKEMAKE, copy_tree, fail, succeed, workflow_of

from smolmake.execution.kinds import KINDS

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]
DRY = ("--dry-run",)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("graph"))


def outputs(copy: Path, *arguments: str, recipe: str) -> list[str]:
    """The output of every job of the graph, as Snakemake lists them."""
    lines = succeed(copy, *arguments, "--summary", recipe=recipe).splitlines()
    found = sorted(line.split("\t")[0] for line in lines if line.startswith("results/"))
    assert found
    return found


def edited(copy: Path, old: str, new: str) -> str:
    """The toy recipe with one change, as a recipe of its own; returns its path."""
    text = (copy / "examples/toy/recipe.yaml").read_text()
    assert old in text
    path = copy / "config" / "recipes" / "edited.yaml"
    path.write_text(text.replace(old, new, 1))
    return "config/recipes/edited.yaml"


def test_both_snakefiles_give_the_same_jobs_which_are_the_plans(copy: Path) -> None:
    jobs = outputs(copy, recipe="toy")
    assert outputs(copy, "--snakefile", "workflow/Snakefile", recipe="toy") == jobs
    workflow = workflow_of(copy, "examples/toy/recipe.yaml")
    assert set(jobs) == {step.manifest for step in workflow.steps.all.values()} | {workflow.links}
    absent = {"adopted", "packing", "suite", "suite_items", "overlap", "preflight", "check_tasks"}
    assert {job.split("/")[1] for job in jobs} == {*KINDS, "latest"} - absent


def test_a_target_asks_for_no_more_than_it_needs(copy: Path) -> None:
    kinds = {job.split("/")[1] for job in outputs(copy, "tokenizers", recipe="toy")}
    assert kinds == {"generated", "documents", "tokenizer", "tokenizer_comparison"}


def test_a_recipe_by_path_is_the_recipe_by_name(copy: Path, tmp_path: Path) -> None:
    jobs = outputs(copy, recipe="toy")
    assert outputs(copy, recipe="examples/toy/recipe.yaml") == jobs
    shutil.copy(copy / "examples/toy/recipe.yaml", tmp_path / "elsewhere.yaml")
    assert outputs(copy, recipe=str(tmp_path / "elsewhere.yaml")) == jobs


def test_the_example_for_a_users_own_texts_plans(copy: Path, root: Path) -> None:
    shutil.copytree(root / "examples", copy / "examples", dirs_exist_ok=True)
    jobs = outputs(copy, recipe="my-texts")
    assert any("/segment/" in job for job in jobs) and not any("/generated/" in job for job in jobs)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("warmup_steps: 30", "warmupsteps: 30", ("pretraining.schedule.warmupsteps", "did you mean `warmup_steps`?")),
        ("{code: 0.15,", "{code: -0.15,", ("pretraining.stages.0.mixture.code", "-0.15")),
        ("{code: 0.15,", "{cod: 0.15,", ("pretraining.stages.0.mixture\n", "value   cod\n", "did you mean `code`?")),
        ("generated: toy/code.parquet", "path: nothing.parquet", ("sources.code.path", "no such file")),
        ("title:", "title: !!python/object/apply:os.getcwd []\nold:", ("not valid YAML", "value   line ")),
    ],
    ids=["misspelt", "negative", "unknown source", "missing file", "tag"],
)
def test_a_mistake_in_a_recipe_is_told_on_one_screen(copy: Path, old: str, new: str, told: tuple[str, ...]) -> None:
    said = fail(copy, *DRY, recipe=edited(copy, old, new))
    for part in (*told, "config/recipes/edited.yaml", "remedy"):
        assert part in said, said
    assert "\nerror: " in said and "WorkflowError" not in said, said
    assert len(said.strip().splitlines()) <= 15, said


def test_an_unknown_recipe_names_the_nearest(copy: Path) -> None:
    assert "did you mean `toy`?" in fail(copy, *DRY, recipe="toyy")
    assert "no such recipe" in fail(copy, *DRY, recipe="../../../etc/passwd")


@pytest.fixture
def read_only(copy: Path) -> Iterator[Path]:
    results = copy / "results"
    results.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        options = ["-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(results)]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode != 0:
            pytest.skip("root without the right to mount")
        yield results
        subprocess.run(["umount", str(results)], check=True)
    else:
        results.chmod(0o500)
        yield results
        results.chmod(0o700)


def test_results_that_cannot_be_written_are_told_before_the_start(copy: Path, read_only: Path) -> None:
    said = fail(copy, *DRY, recipe="toy")
    assert "cannot be written" in said and "results" in said and "remedy" in said


def test_a_dry_run_leaves_nothing_behind(copy: Path) -> None:
    assert "Plan of toy" in succeed(copy, *DRY, recipe="toy")
    assert not any((copy / "results").glob("*/*")) and not (copy / "logs").exists()


def test_over_budget_it_does_not_start(copy: Path) -> None:
    small = "runtime:\n  layouts: {pretraining: {gpus_per_node: 8, micro_batch: 1}}"
    budget = "cost: {budget: {gpu_hours: 0}}\n"
    recipe = edited(copy, "runtime:", budget + small)
    assert "OVER: it would not start" in succeed(copy, *DRY, recipe=recipe)
    said = fail(copy, recipe=recipe)
    assert (
        "over budget" in said
        and "--consent 1" in said
        and f"--config recipe={recipe} consent=1" in said
        and "cost.budget.gpu_hours" in said
    )
    assert not any((copy / "results").glob("*/*"))
    # Consent starts the run: here up to the generated files.
    target = next(step.manifest for step in workflow_of(copy, recipe).steps.of_kind("generated"))
    succeed(copy, target, recipe=f"{recipe} consent=1")
    assert (copy / target).is_file()
    shutil.rmtree(copy / "results")
    shutil.rmtree(copy / "logs")


@pytest.mark.parametrize(
    ("given", "told"), [("recpe=toy", "did you mean `recipe`?"), ("consent=much", "number of GPU-hours")]
)
def test_a_wrong_key_of_config_is_told(copy: Path, given: str, told: str) -> None:
    said = fail(copy, *DRY, recipe=f"toy {given}")
    assert told in said and "remedy" in said


def test_every_rule_is_complete(copy: Path) -> None:
    texts = [file.read_text() for file in (copy / "workflow" / "rules").glob("*.smk")]
    rules = [rule for text in texts for rule in re.split(r"^(?:use )?rule ", text, flags=re.MULTILINE)[1:]]
    own = ("output:", "log:", "conda:", "message:")
    whole = (*own, "input:", "threads:", "shell:")
    inherited = ("log:", "threads:", "conda:", "shell:", "resources:", "params:")
    assert len(rules) == len(KINDS) + 2
    for rule in rules:
        name = rule.split(":")[0]
        parts = {"step": inherited, "link_results": whole}.get(name, own)
        assert name in ("step", "link_results") or re.fullmatch(r"step as \w+ with", name)
        for part in parts:
            assert f"\n    {part}" in rule, f"{name} has no {part}"
        if kind := re.fullmatch(r"step as (\w+) with", name):
            own_paths = (f'"results/{kind[1]}/{{step}}/', f'"logs/{kind[1]}/{{step}}.log"', f'environment("{kind[1]}")')
            assert all(path in rule for path in own_paths), name
        assert "run:" not in rule and "import" not in rule, name


def test_the_linter_has_nothing_to_say(copy: Path) -> None:
    done = subprocess.run(
        [SNAKEMAKE, "--lint"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_slurm_profiles_plan_by_name_and_by_path(copy: Path, root: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "XDG_CONFIG_HOME": str(tmp_path / ".config")}
    command = re.search(r"`(mkdir -p .*profiles/slurm.*)`", (root / "docs/how-to/slurm.md").read_text())
    assert command is not None
    home = {**environment, "HOME": str(tmp_path)}
    subprocess.run(command[1], shell=True, cwd=copy, check=True, env=home)  # noqa: S602
    for option, profile in (("--profile", "slurm"), ("--workflow-profile", "profiles/slurm-example")):
        done = subprocess.run(
            [SNAKEMAKE, option, profile, *DRY], cwd=copy, capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0 and "Plan of toy" in done.stdout + done.stderr, done.stderr[-3000:]


def test_a_layout_of_several_nodes_does_not_start_on_this_machine(copy: Path) -> None:
    layout = "cost: {budget: {}}\nruntime:\n  layouts: {stage1: {nodes: 2, gpus_per_node: 1, micro_batch: 1}}"
    said = fail(copy, recipe=edited(copy, "runtime:", layout))
    assert "needs 2 nodes, and this machine has" in said and "run with --profile slurm" in said
    assert not any((copy / "results").glob("*/*"))


def test_a_rule_that_runs_another_script_is_refused_by_the_plan(copy: Path) -> None:
    file = copy / "workflow" / "rules" / "step.smk"
    before = file.read_text()
    try:
        file.write_text(
            before.replace('"{params.command} --workers', '"python tools/mine.py {params.command} --workers')
        )
        said = fail(copy, *DRY, recipe="toy")
    finally:
        file.write_text(before)
    assert "does not run the script of its kind alone" in said and f"{file}:17" in said
    assert "rule step: shell" in said and "tools/mine.py" in said and "remedy" in said
