"""A suite's tasks are looked up in the harness's files, once for a version of it."""

from pathlib import Path

import pytest
from helpers.recipes import SMALL, load

from smolmake.errors import UserError
from smolmake.planning import task_names
from smolmake.planning.task_names import REMEMBERED, check_task_names

SUITE = "evaluation: {suites: {reading: {tasks: [TASKS]}}}\n"


def check(tree: Path, tasks: str) -> None:
    check_task_names(load(tree, SMALL + SUITE.replace("TASKS", tasks)), tree)


def test_the_harness_is_searched_once_for_the_tasks_that_it_has(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tree, "hellaswag")
    monkeypatch.setattr(task_names, "harness_names", lambda: pytest.fail("searched again"))
    check(tree, "hellaswag")


@pytest.mark.parametrize("kept", [None, "not JSON", "[]", '{"0.0.1": ["helaswag"]}'])
def test_what_was_kept_lets_no_unknown_task_through(tree: Path, kept: str | None) -> None:
    check(tree, "hellaswag")
    if kept is not None:
        (tree / REMEMBERED).write_text(kept)
    with pytest.raises(UserError, match="no such task") as caught:
        check(tree, "hellaswag, helaswag")
    assert caught.value.key == "evaluation.suites.reading.tasks.1" and "`hellaswag`" in caught.value.remedy
    check(tree, "hellaswag")
