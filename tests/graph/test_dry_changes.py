"""Changes of files and of code, each seen by a real dry run of Snakemake over the finished mini recipe."""

import ast
import json
import os
import re
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from helpers.changes import EVALUATIONS, FROM_MID, FROM_SFT, FROM_STAGE1, NOTHING
from helpers.workflow_runs import MINI, clone, copy_tree, succeed

from smolmake.planning.plan import make_plan
from smolmake.planning.workflow import load_workflow

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]
Change = Callable[[Path], None]


def replace(file: str, old: str, new: str) -> Change:
    def change(tree: Path) -> None:
        text = (tree / file).read_text()
        assert old in text, f"{file} has no {old!r}"
        (tree / file).write_text(text.replace(old, new, 1))

    return change


def rename(file: str, name: str) -> Change:
    """Another name for a local variable, everywhere in a file."""

    def change(tree: Path) -> None:
        text = (tree / file).read_text()
        (tree / file).write_text(re.sub(rf"\b{name}\b", f"other_{name}", text))
        assert (tree / file).read_text() != text

    return change


def append(file: str, text: str) -> Change:
    def change(tree: Path) -> None:
        (tree / file).write_text((tree / file).read_text() + text)

    return change


def edit(file: str, function: str) -> Change:
    """Another first statement in a function."""

    def change(tree: Path) -> None:
        lines = (tree / file).read_text().splitlines()
        found = [
            node
            for node in ast.parse("\n".join(lines)).body
            if isinstance(node, ast.FunctionDef) and node.name == function
        ]
        lines.insert(found[0].body[0].end_lineno or 0, "    assert True")
        (tree / file).write_text("\n".join(lines) + "\n")

    return change


def reformat(tree: Path) -> None:
    """Every module as Python itself would write it: no comments, other breaks, other quotes."""
    for file in [*(tree / "src").rglob("*.py"), *(tree / "workflow" / "scripts").glob("*.py")]:
        file.write_text(ast.unparse(ast.parse(file.read_text())))


def touch(tree: Path) -> None:
    for path in tree.rglob("*"):
        os.utime(path, follow_symlinks=False)


def forget(tree: Path) -> None:
    for name in (".snakemake", ".smolmake"):
        shutil.rmtree(tree / name, ignore_errors=True)


def lose(kind: str) -> Change:
    def change(tree: Path) -> None:
        for folder in (tree / "results" / kind).iterdir():
            shutil.rmtree(folder)

    return change


def interrupt(tree: Path) -> None:
    for manifest in (tree / "results" / "merge").glob("*/manifest.json"):
        manifest.unlink()


STEP_RULE = "workflow/rules/step.smk"
MERGING = '    message:\n        "merging {wildcards.step}"\n'
MERGE_COMMAND = 'of_step(lambda step: "OMP_DYNAMIC=true " + WORKFLOW.command(step, None))'


# name: change, the steps that run again, what the plan says
CASES: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "a copy": (lambda tree: None, NOTHING, ""),
    "a touch": (touch, NOTHING, ""),
    "no .snakemake": (forget, NOTHING, ""),
    "reformatted": (reformat, NOTHING, ""),
    "a comment": (append("src/smolmake/data/token_shards.py", "\n# A comment.\n"), NOTHING, ""),
    "a docstring": (replace("src/smolmake/posttrain/merge.py", '"""', '"""Another. '), NOTHING, ""),
    "a local name in unrelated code": (rename("src/smolmake/planning/text.py", "members"), NOTHING, ""),
    "a package that changes no result": (edit("src/smolmake/execution/manifest.py", "read_manifest"), NOTHING, ""),
    "an unused function": (append("src/smolmake/train/optimizer.py", "\n\ndef unused():\n    pass\n"), NOTHING, ""),
    "an annotation": (replace("src/smolmake/posttrain/merge.py", "out: Path", "out: str"), NOTHING, ""),
    "what a step asks for": (replace("src/smolmake/execution/kinds.py", "runtime=1440", "runtime=2880"), NOTHING, ""),
    "a function that one step uses": (
        edit("src/smolmake/posttrain/merge.py", "merge_linear"),
        ("merge/*", "evaluation/merged", "report/*"), "posttrain/merge.py: merge_linear() changed",
    ),
    "a script": (
        edit("workflow/scripts/epochs.py", "compute"), ("epochs/*", "report/*"),
        "workflow/scripts/epochs.py: compute() changed",
    ),
    "another name of the recipe": (
        replace(MINI, "name: mini\n", "name: other\n"), ("report/*",), "name mini → other",
    ),
    "a comment in a rule": (
        replace(STEP_RULE, "    shell:\n", "    # A comment.\n    shell:\n"), NOTHING, "",
    ),
    "what a rule asks for and says": (
        replace("workflow/rules/posttrain.smk", "    priority: 10\n", "    threads: 3\n    priority: 9\n"), NOTHING, "",
    ),
    "a rule's command": (
        replace("workflow/rules/posttrain.smk", MERGING, f"{MERGING}    params:\n        command={MERGE_COMMAND},\n"),
        ("merge/*", "evaluation/merged", "report/*"),
        "workflow/rules/posttrain.smk: params.command of rule merge is new",
    ),
    "the learning rate's function": (
        edit("src/smolmake/recipe/schedule.py", "learning_rate"), FROM_STAGE1,
        "recipe/schedule.py: learning_rate() changed",
    ),
    "the report's wording": (
        edit("src/smolmake/report/text.py", "plural"), ("report/*",), "report/text.py: plural() changed",
    ),
    "the report's style": (
        append("src/smolmake/report/style.css.j2", "\np { margin: 0; }\n"), ("report/*",),
        "report/style.css.j2: its content changed",
    ),
    "a chat template": (
        append("config/templates/smollm3-short.jinja", "{#- a comment -#}"), (*FROM_SFT, *EVALUATIONS),
        "the text of the chat template changed",
    ),
    "mid-training's template": (
        append("config/templates/chatml.jinja", "{#- a comment -#}"), FROM_MID, "the text of the chat template changed"
    ),
    "the shots of a task": (
        append("examples/toy/tasks/facts.yaml", "\nnum_fewshot: 1\n"), EVALUATIONS, "the files of the tasks changed"
    ),
    "lost merges": (lose("merge"), ("merge/*",), "missing"),
    "an interrupted merge": (interrupt, ("merge/*",), "begun and not finished: it goes on"),
}  # fmt: skip


def dry_run(tree: Path) -> dict[str, object]:
    """The plan of a dry run by Snakemake, as JSON, after a check that its text says the same."""
    said = succeed(tree, "--dry-run", "--logger-smolmake-json", "plan.json", recipe=MINI)
    workflow: dict[str, object] = json.loads((tree / "plan.json").read_text())
    assert ("Nothing would run" in said) == (not workflow["run"])
    return workflow | {"text": said}


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_files_or_code(mini: Path, tmp_path: Path, name: str) -> None:
    change, patterns, reason = CASES[name]
    tree = clone(mini, tmp_path / "tree")
    change(tree)
    workflow = dry_run(tree)
    labels = {f"{step['kind']}/{step['name']}" for step in workflow["run"]}  # type: ignore[index, union-attr]
    everything = {key.rpartition("-")[0] for key in workflow["done"]} | labels  # type: ignore[union-attr]
    asked = {label for label in everything if any(fnmatchcase(label, pattern) for pattern in patterns)}
    assert sorted(labels ^ asked) == []
    if patterns:
        assert f"  {reason}: " in str(workflow["text"]), workflow["text"]


def test_there_and_back_again(mini: Path, tmp_path: Path) -> None:
    tree = clone(mini, tmp_path / "tree")
    replace(MINI, "apo: {epochs: 0.05}", "apo: {epochs: 0.06}")(tree)
    assert dry_run(tree)["run"]
    replace(MINI, "apo: {epochs: 0.06}", "apo: {epochs: 0.05}")(tree)
    assert not dry_run(tree)["run"]


def test_without_snakemake_the_plan_is_the_same(mini: Path, tmp_path: Path) -> None:
    tree = clone(mini, tmp_path / "tree")
    replace(MINI, "mathematics: 0.6, notebooks: 0.4", "mathematics: 0.5, notebooks: 0.5")(tree)
    dry = dry_run(tree)
    ours = make_plan(load_workflow(str(tree / MINI), tree))
    assert [step["step"] for step in dry["run"]] == [step.key for step in ours.running]  # type: ignore[index, attr-defined]


def test_a_clone_without_results_runs_everything(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    workflow = dry_run(tree)
    assert not workflow["done"] and "missing: " in str(workflow["text"])
    assert not (tree / "results").exists() and not (tree / "logs").exists()
