"""A suite's tasks are looked up in the harness's files, once for a version of it."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.recipes import SMALL, load

from smolmake.errors import UserError
from smolmake.evaluate import sandbox
from smolmake.evaluate.sandbox import find_sandbox
from smolmake.planning import task_names
from smolmake.planning import task_needs as task_needs_module
from smolmake.planning.task_names import REMEMBERED, check_task_names, mentions, revision_warnings
from smolmake.planning.task_needs import loaded_modules, task_needs
from smolmake.recipe.load import load_recipe
from smolmake.recipe.schema import Recipe

SUITE = "evaluation: {suites: {reading: {tasks: [TASKS]}}}\n"


def check(tree: Path, tasks: str) -> None:
    check_task_names(load(tree, SMALL + SUITE.replace("TASKS", tasks)), tree)


def test_the_harness_is_searched_once_for_the_tasks_that_it_has(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tree, "hellaswag")
    monkeypatch.setattr(task_names, "mentions", lambda: pytest.fail("searched again"))
    monkeypatch.setattr(task_names, "harness_names", lambda: pytest.fail("searched again"))
    check(tree, "hellaswag")


@pytest.mark.parametrize("kept", [None, "not JSON", "[]", '{"0.0.1": {"helaswag": {}}}', '{"0.4.13": ["helaswag"]}'])
def test_what_was_kept_lets_no_unknown_task_through(tree: Path, kept: str | None) -> None:
    check(tree, "hellaswag")
    if kept is not None:
        (tree / REMEMBERED).write_text(kept)
    with pytest.raises(UserError, match="no such task") as caught:
        check(tree, "hellaswag, helaswag")
    assert caught.value.key == "evaluation.suites.reading.tasks.1" and "`hellaswag`" in caught.value.remedy
    check(tree, "hellaswag")


def test_what_the_tasks_of_the_project_s_recipes_need_is_installed(root: Path) -> None:
    """Of the groups ifeval, minerva_math and ruler too, whose packages the harness itself leaves out."""
    names = {name for file in ("baseline-1b", "smol-135m", "smollm3")
             for suite in load_recipe(file, root).evaluation.suites.values() for name in suite.tasks}  # fmt: skip
    needed = {name: task_needs(name, mentions()) for name in names}
    assert {name: needs.missing for name, needs in needed.items() if needs.missing or needs.unsafe} == {}
    assert {"immutabledict", "langdetect", "nltk"} <= set(needed["ifeval"].modules)
    assert {"antlr4", "math_verify", "sympy"} <= set(needed["minerva_math"].modules)
    assert {"wonderwords", "nltk", "scipy"} <= set(needed["ruler"].modules)  # of its members
    import_module("lm_eval.tasks.minerva_math.utils")  # it looks at versions too; the others would ask the network


def test_data_sets_without_a_commit_are_told_and_can_be_pinned(tree: Path) -> None:
    def suite(keys: str) -> Recipe:
        return load(
            tree, SMALL + f"evaluation: {{suites: {{reading: {{tasks: [hellaswag, mmlu_continuation], {keys}}}}}}}"
        )

    (told,) = revision_warnings(suite("shots: 0"), tree)
    assert "Rowan/hellaswag, cais/mmlu" in told  # of MMLU's subjects, which stand in groups within a group
    assert "evaluation.suites.reading.revisions: {Rowan/hellaswag: COMMIT}" in told
    pinned = suite("revisions: {Rowan/hellaswag: '12', cais/mmlu: '34'}")
    check_task_names(pinned, tree)
    assert revision_warnings(pinned, tree) == []
    with pytest.raises(UserError, match="no task of the suite reads") as caught:
        check_task_names(suite("revisions: {rowan/helaswag: '12'}"), tree)
    assert caught.value.key == "evaluation.suites.reading.revisions" and "Rowan/hellaswag" in caught.value.remedy


def test_a_package_that_is_not_there_is_told_with_the_task_s_key(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tree, "hellaswag, ifeval")
    monkeypatch.setattr(task_needs_module, "find_spec", lambda name: None if name == "langdetect" else find_spec(name))
    with pytest.raises(UserError, match="ifeval` needs packages that are not installed: langdetect") as caught:
        check(tree, "hellaswag, ifeval")
    assert caught.value.key == "evaluation.suites.reading.tasks.1" and "make setup" in caught.value.remedy


def test_a_task_that_runs_what_the_model_writes_needs_a_sandbox(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs it in a way of its own is refused wherever it is planned."""
    with pytest.raises(UserError, match="cruxeval_input runs what the model writes in a way of its own") as caught:
        check(tree, "cruxeval_input")
    assert caught.value.key == "evaluation.suites.reading.tasks.0"
    find_sandbox.cache_clear()
    monkeypatch.setenv("PATH", str(tree))
    with pytest.raises(UserError, match="no bubblewrap") as caught:
        check(tree, "hellaswag, humaneval_plus")
    assert caught.value.key == "evaluation.suites.reading.tasks.1" and "apt install" in caught.value.remedy
    monkeypatch.setattr(sandbox, "find_sandbox", lambda: None)
    check(tree, "humaneval, mbpp_plus")


def test_what_code_imports_as_it_is_loaded_is_what_it_needs(tmp_path: Path) -> None:
    code = tmp_path / "utils.py"
    code.write_text(
        "import json, one.part\nfrom two import x\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import never\n"
        "try:\n    import three\nexcept ImportError:\n    raise\n"
        "try:\n    import optional\nexcept ImportError:\n    optional = None\n"
        "def later():\n    import not_yet\n"
        "from lm_eval.tasks.ifeval import instructions_util\n"
    )
    assert loaded_modules(code) == {"one", "two", "three", "immutabledict", "nltk", "packaging"}
