"""The recipe's own tasks: files of the harness's form, over the questions that the sources are searched for."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from lm_eval.api import metrics  # noqa: F401 (its import fills the registry)
from lm_eval.api.registry import metric_registry
from lm_eval.tasks._yaml_loader import load_yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smolmake.data.chat import ChatFormat
from smolmake.data.columns import MissingColumn
from smolmake.errors import UserError, did_you_mean
from smolmake.evaluate.harness import run_harness
from smolmake.evaluate.harness_tasks import Tasks
from smolmake.evaluate.items import question_files, question_rows
from smolmake.graph.specs.evaluate import TaskFiles
from smolmake.recipe.evaluation import HarnessTasks
from smolmake.recipe.formats import file_format

DATA = "{data}/"  # in a task file: the folder of the questions


def prepare_tasks(
    task_files: list[Path],
    questions: dict[str, Path],
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    template: str | None,
) -> list[str]:
    """Copy task files and questions into `folder`, with `{data}` replaced and conversations rendered into `query`.

    Returns what is to be asked: groups, and tasks that are in none. Chat tasks are left out where the recipe has no
    chat template.

    Raises:
        UserError: for a task file that is none, or that asks something else than the questions.
    """
    data = folder / "data"
    data.mkdir(parents=True)
    for path in questions.values():
        _write_questions(path, data / path.name, tokenizer, template)
    names, members = [], set[str]()
    for path in task_files:
        if path.suffix == ".yaml":
            task = read_task(path)
            if (task.get("metadata") or {}).get("chat") and template is None:
                continue
            if "group" in task:
                members |= {each if isinstance(each, str) else str(each.get("task")) for each in task.get("task") or ()}
            elif "task" in task:
                _check_questions(task, path, {file.name for file in questions.values()})
                _check_metrics(task, path)
            names += [task[kind] for kind in ("group", "task") if isinstance(task.get(kind), str)][:1]
        (folder / path.name).write_text(path.read_text().replace("{data}", str(data)))
    return sorted(set(names) - members)


def read_task(path: Path) -> dict[str, Any]:
    """What a task file says, with what it includes; the functions that it names are not imported."""
    try:
        task: dict[str, Any] = load_yaml(path, resolve_func=False)
    except (OSError, ValueError) as error:
        remedy = "see docs/how-to/tasks.md for the form of a task file"
        raise UserError(
            "not a readable task file", file=path, key="evaluation.tasks", value=error, remedy=remedy
        ) from None
    return task


def _check_questions(task: dict[str, Any], path: Path, names: set[str]) -> None:
    """Raise UserError unless all data of a task are questions of the recipe's: others would not be decontaminated."""
    places = _places((task.get("dataset_kwargs") or {}).get("data_files"))
    for place in places or [str(task.get("dataset_path"))]:
        if not place.startswith(DATA) or place.removeprefix(DATA) not in names:
            near = did_you_mean(place.removeprefix(DATA), sorted(names))
            raise UserError(
                f"the task {task['task']} asks data that is not under the recipe's `evaluation.data`, so that the "
                "sources would not be searched for it",
                file=path, key="dataset_kwargs.data_files", value=place, remedy=f"write {DATA}FILE: {near}",
            )  # fmt: skip


def _check_metrics(task: dict[str, Any], path: Path) -> None:
    """Raise UserError for a metric that the harness does not have, where no code of the task's own computes it."""
    for metric in task.get("metric_list") or ():
        name = metric.get("metric")
        own = task.get("process_results") or metric.get("hf_evaluate") or callable(name)
        if not own and name not in metric_registry:
            raise UserError(
                f"the task {task['task']} asks for a metric that the harness does not have",
                file=path, key="metric_list", value=name, remedy=did_you_mean(str(name), sorted(metric_registry)),
            )  # fmt: skip


def _places(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [place for each in (value.values() if isinstance(value, dict) else value) for place in _places(each)]
    return [] if value is None else [str(value)]


def _write_questions(path: Path, place: Path, tokenizer: PreTrainedTokenizerBase | None, template: str | None) -> None:
    """Copy a file of questions; JSON as a row a line, and conversations with the prompt that they make."""
    rows = question_rows(path)
    chat = template is not None and any("messages" in row for row in rows)
    form = ChatFormat(tokenizer, template) if chat and tokenizer is not None else None
    for number, row in enumerate(rows if chat else [], 1):
        if "messages" not in row:
            raise MissingColumn("messages", row, file=path, place=f"row {number}, though others are conversations")
        assert form is not None
        row["query"] = form.prompt(row["messages"], enable_thinking=row.get("enable_thinking", True))
    kind = file_format(path)
    if kind == "parquet" and chat:
        pq.write_table(pa.Table.from_pylist(rows), place)
    elif kind in ("jsonl", "json"):
        place.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        shutil.copyfile(path, place)


def score_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: TaskFiles,
    template: str | None,
    limit: int | None,
    generated: Path | None,
    answers: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Scores of tasks, run from a scratch folder of rendered task files; `generated` is the folder of the step that
    generated their questions, if one did, and `answers` as for `run_harness`.
    """
    task_files = sorted(path for path in Path(tasks.folder).iterdir() if path.suffix in (".yaml", ".py"))
    with tempfile.TemporaryDirectory(prefix="smolmake-tasks-") as scratch:
        datasets.config.HF_DATASETS_CACHE = Path(scratch) / "cache"
        folder = Path(scratch) / "tasks"
        questions = question_files(tasks.data, generated)
        names = prepare_tasks(task_files, questions, folder, tokenizer, template)
        if not names:
            return []
        own = Tasks(include_path=str(folder), include_defaults=False)
        rows = run_harness(model, tokenizer, HarnessTasks(tasks=names, limit=limit), own, answers=answers)
        by_place = {str(folder / "data" / path.name): name for name, path in questions.items()}
        for row in rows:  # a group has none of its own
            task = own.loaded["tasks"].get(row["task"])
            places = _places(task.config.dataset_kwargs["data_files"]) if task is not None else []
            row["questions"] = sorted({by_place[place] for place in places})
        return rows
