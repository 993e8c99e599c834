"""The tasks that the lm-evaluation-harness knows, and what they ask, for decontamination.

Apart from harness.py, so that a change in how answers are scored makes no new documents.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, Kind

from smolmake.errors import UserError, did_you_mean
from smolmake.evaluate.code_metric import replaced_metric
from smolmake.evaluate.items import item_text
from smolmake.execution.remembered import remember, remembered

KEY = "evaluation.suites.*.tasks"
INDEX = Path(".smolmake") / "harness_index.json"  # of the tree that a job runs in


class Pinned(TaskFactory):  # type: ignore[misc]
    """Makes tasks that read data sets of the hub at given commits."""

    def __init__(self, metadata: dict[str, Any] | None, revisions: dict[str, str]) -> None:
        super().__init__(meta=metadata)
        self.revisions = revisions

    def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        settings: dict[str, Any] = super()._load_full_config(entry, overrides)
        if (revision := self.revisions.get(str(settings.get("dataset_path")))) is not None:
            settings["dataset_kwargs"] = {**(settings.get("dataset_kwargs") or {}), "revision": revision}
        return settings


class Tasks(TaskManager):  # type: ignore[misc]
    """The harness's tasks and groups; what `load_anew` gave is kept, for all rounds and for its aggregations."""

    names: list[str] | None = None
    loaded: Any = None

    def __init__(
        self, include_path: str | None = None, include_defaults: bool = True, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(include_path=include_path, include_defaults=False, metadata=metadata)
        if include_defaults:
            self._index: dict[str, Entry] = {**_default_index(), **self.task_index}
            self._all_tasks = sorted(self._index)

    def pin(self, revisions: dict[str, str]) -> None:
        """Read these data sets of the hub at these commits from now on."""
        self._factory = Pinned(self.metadata, revisions)

    def load(self, task_list: Any) -> Any:
        """As `load_anew`, unless these tasks are kept."""
        return self.loaded if task_list == self.names else self.load_anew(task_list)

    def load_anew(self, task_list: list[str]) -> Any:
        """The tasks and groups of names: {"tasks": {name: Task}, "groups": {name: Group}, "group_map": {...}}.

        Raises:
            UserError: if the harness has no such task, its data or packages cannot be had, or it has no items.
        """
        found: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
        for name in task_list:
            if name not in self.all_tasks:
                remedy = did_you_mean(name, self.all_tasks)
                raise UserError("the lm-evaluation-harness has no such task", key=KEY, value=name, remedy=remedy)
            try:
                with replaced_metric():
                    parts = super().load([name])
                for part, values in parts.items():
                    found[part] |= values
                empty = [task for task, loaded in found["tasks"].items() if not len(loaded.eval_docs)]
            except Exception as error:  # many kinds: of the network, of the hub, of the task's own code
                raise _told(name, error) from None
            if empty:
                raise UserError(f"the task {empty[0]} has no items", key=KEY, value=name, remedy="take it out")
        self.names, self.loaded = list(task_list), found
        return found


def _default_index() -> dict[str, Entry]:
    """Where each of the harness's own tasks, groups and tags is defined: thousands of files are read once a version.

    Each entry's file is read again when it is loaded.
    """
    version, folder = metadata.version("lm_eval"), Path(lm_eval.tasks.__file__).parent
    kept: dict[str, list[Any]] | None = remembered(INDEX).get(version)
    if kept is None:
        kept = {
            name: [entry.kind.name, entry.yaml_path and str(entry.yaml_path.relative_to(folder)), sorted(entry.tags)]
            for name, entry in TaskManager().task_index.items()
        }
        remember(INDEX, {version: kept})
    return {
        name: Entry(name, Kind[kind], None if file is None else folder / file, None, set(tags))
        for name, (kind, file, tags) in kept.items()
    }


def _told(name: str, error: Exception) -> UserError:
    """Why a task cannot be loaded, by the kind of error: its packages, its data, or the task itself."""
    if isinstance(error, ImportError):
        what = f"the task `{name}` needs a package that is not installed"
        remedy = "install it (pip install -c constraints.txt PACKAGE), or take the task out"
    elif isinstance(error, OSError):
        what = f"the data of the task `{name}` cannot be had: {type(error).__name__}"
        remedy = (
            "check the network and HF_TOKEN (some sets must be asked for on the hub), or fill the cache "
            "(HF_DATASETS_CACHE) where there is a network"
        )
    else:
        what = f"the task `{name}` cannot be loaded: {type(error).__name__}"
        remedy = "check its file and its data; a task that is made to a length needs `lengths`"
    return UserError(what, key=KEY, value=error, remedy=remedy)


def suite_items(
    names: list[str], tasks: Tasks | None = None, revisions: dict[str, str] | None = None
) -> dict[str, list[str]]:
    """For each task of the harness, those of groups one by one, the text of the items that it is evaluated on.

    An item is what the harness makes its request from: a row of the task's data set, after the task's own changes.

    Raises:
        UserError: if the harness has no such task, or its data cannot be had.
    """
    tasks = tasks or Tasks()
    tasks.pin(revisions or {})
    loaded: dict[str, Task] = tasks.load(names)["tasks"]
    return {name: [item_text(dict(row)) for row in task.eval_docs] for name, task in sorted(loaded.items())}
