"""What a user writes in a task file is what the harness reads, and what the identity covers, or it is refused."""

from pathlib import Path

import pytest
from helpers.recipes import SMALL, load
from lm_eval.tasks._yaml_loader import load_yaml

from smolmake.errors import UserError
from smolmake.planning.task_files import check_task_files

TASK = "task: mine\nmetadata:\n  note: PLACE\ngeneration_kwargs: {until: ['no', '12:30'], temperature: 0.5}\n"


def check(tree: Path, text: str) -> None:
    (tree / "questions").mkdir()
    (tree / "questions" / "a.jsonl").write_text('{"query": "a"}\n')
    (tree / "tasks").mkdir()
    (tree / "tasks" / "mine.yaml").write_text(text)
    recipe = load(tree, SMALL + "evaluation: {tasks: tasks, data: {path: questions}}\n")
    check_task_files(recipe, tree)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("12:30", 750),
        ("010", 8),
        ("no", False),
        ("on", True),
        ("1_000", 1000),
        ("0b11", 3),
        ("1e-3", "1e-3"),
        ("0o17", "0o17"),
        ("[1, yes]", [1, True]),
    ],
)
def test_what_the_harness_reads_otherwise_is_refused(tree: Path, value: str, read: object) -> None:
    with pytest.raises(UserError, match="by the rules of YAML 1.1") as caught:
        check(tree, TASK.replace("PLACE", value))
    assert load_yaml(tree / "tasks" / "mine.yaml", resolve_func=False)["metadata"]["note"] == read
    error = caught.value
    assert str(error.file) == f"{tree / 'tasks' / 'mine.yaml'}:3" and str(error.key).startswith("metadata.note")
    assert f"'{error.value}'" in error.remedy and str(error.value) in value


def test_a_key_that_the_harness_reads_otherwise_is_refused(tree: Path) -> None:
    with pytest.raises(UserError, match="as True") as caught:
        check(tree, TASK.replace("note: PLACE", "on: 1"))
    assert caught.value.key == "metadata.on"


@pytest.mark.parametrize("value", ["'12:30'", '"no"', "0.001", "1.0e-3", "10", "null", "!!str 010", "|\n    no"])
def test_what_both_read_alike_is_taken(tree: Path, value: str) -> None:
    check(tree, TASK.replace("PLACE", value) + "process_results: !function mine.score\n")


@pytest.mark.parametrize("place", ["../base.yaml", "/tmp/base.yaml", "base", "absent.yaml", "[mine.yaml, sub/a.yaml]"])
def test_an_include_of_what_no_identity_covers_is_refused(tree: Path, place: str) -> None:
    with pytest.raises(UserError, match="in no step's identity") as caught:
        check(tree, f"include: {place}\n{TASK.replace('PLACE', 'x')}")
    assert caught.value.key == "include" and str(caught.value.value) in place


def test_task_files_of_the_folder_may_be_included(tree: Path) -> None:
    check(tree, f"include: mine.yaml\n{TASK.replace('PLACE', 'x')}")
