"""What the tasks of the lm-evaluation-harness ask, for decontamination.

Apart from suites.py, so that a change in how answers are scored makes no new documents.
"""

from __future__ import annotations

from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from smolmake.errors import UserError, did_you_mean
from smolmake.evaluate.items import item_text


def suite_items(tasks: list[str], manager: TaskManager | None = None) -> dict[str, list[str]]:
    """For each task of the harness, those of groups one by one, the text of the items that it is evaluated on.

    An item is what the harness makes its request from: a row of the task's data set, after the task's own changes.

    Raises:
        UserError: if the harness has no such task, or its data cannot be had.
    """
    manager = manager or TaskManager()
    check_known(tasks, manager)
    items: dict[str, list[str]] = {}
    for name in tasks:
        try:
            for task, loaded in manager.load(name)["tasks"].items():
                items[task] = _texts(loaded)
        except Exception as error:  # many kinds: of the network, of the hub, of the task's own code
            raise UserError(
                f"the data of the task `{name}` cannot be had, so the sources cannot be searched for it: "
                f"{type(error).__name__}",
                key="evaluation.suites.*.tasks",
                value=error,
                remedy="check the network and HF_TOKEN (some sets must be asked for on the hub), or fill the cache "
                "(HF_DATASETS_CACHE) where there is a network; a task that is made to a length needs `lengths`",
            ) from None
    return dict(sorted(items.items()))


def _texts(task: Task) -> list[str]:
    return [item_text(dict(row)) for row in task.eval_docs]


def check_known(tasks: list[str], manager: TaskManager) -> None:
    """Raise UserError for a task that the harness does not have."""
    for task in tasks:
        if task not in manager.all_tasks:
            raise UserError(
                "the lm-evaluation-harness has no such task",
                key="evaluation.suites.*.tasks",
                value=task,
                remedy=did_you_mean(task, manager.all_tasks),
            )
