"""Tasks through lm-evaluation-harness: the project's task files on local data, scores with intervals."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smolmake.data.readers import data_files
from smolmake.evaluate.samples import render_prompt
from smolmake.graph.specs.evaluate import TaskFiles
from smolmake.stats import wilson

METRICS_LEFT_OUT = ("acc_norm",)


class TaskLoader(yaml.SafeLoader):
    """Safe YAML that passes over `!function` tags: only names and metadata are read here."""


TaskLoader.add_constructor("!function", lambda loader, node: None)


def prepare_tasks(
    task_files: list[Path],
    data_files: list[Path],
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    template: str | None,
) -> dict[str, dict[str, Any]]:
    """Copy task files and data into `folder`, with `{data}` replaced and chat prompts rendered into `query`.

    Returns each task's metadata by name. Chat tasks are left out where the recipe has no chat template.
    """
    metadata = {}
    data = folder / "data"
    data.mkdir(parents=True)
    for path in data_files:
        shutil.copyfile(path, data / path.name)
    for path in task_files:
        text = path.read_text()
        if path.suffix == ".yaml":
            task = yaml.load(text, Loader=TaskLoader)  # noqa: S506 (a subclass of SafeLoader)
            if task["metadata"].get("chat"):
                if template is None:
                    continue
                _render_chat(data / Path(task["dataset_kwargs"]["data_files"]["test"]).name, tokenizer, template)
            metadata[task["task"]] = task["metadata"]
        (folder / path.name).write_text(text.replace("{data}", str(data)))
    return metadata


def score_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: TaskFiles,
    template: str | None,
    limit: int | None,
    generated: Path | None,
) -> list[dict[str, Any]]:
    """Scores of tasks, run from a scratch folder of rendered task files; `generated` is the folder of the step that
    generated their data, if one did.
    """
    data = [path for path in data_files(tasks.data, generated) if path.suffix in (".jsonl", ".parquet", ".json")]
    task_files = sorted(path for path in Path(tasks.folder).iterdir() if path.suffix in (".yaml", ".py"))
    with tempfile.TemporaryDirectory(prefix="smolmake-tasks-") as scratch:
        os.environ["HF_DATASETS_CACHE"] = f"{scratch}/cache"
        folder = Path(scratch) / "tasks"
        metadata = prepare_tasks(task_files, data, folder, tokenizer, template)
        return run_tasks(model, tokenizer, folder, metadata, limit)


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    metadata: dict[str, dict[str, Any]],
    limit: int | None,
    batch_size: int = 16,
) -> list[dict[str, Any]]:
    """Score the prepared tasks: one entry per task and metric, in the form of scores.json."""
    results = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=sorted(metadata),
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        limit=limit,
        bootstrap_iters=0,
        random_seed=0,
        numpy_random_seed=0,
        torch_random_seed=0,
    )
    scores = []
    for task, items in sorted(results["samples"].items()):
        for metric in items[0]["metrics"]:
            if metric in METRICS_LEFT_OUT:
                continue
            values = [float(item[metric]) for item in items]
            low, high = wilson(sum(values), len(values))
            scores.append(
                {
                    "task": task,
                    "metric": metric,
                    "value": sum(values) / len(values),
                    "low": low,
                    "high": high,
                    "n": len(values),
                    "chance": metadata[task].get("chance", 0.0),
                    "formulation": metadata[task].get("formulation", ""),
                    "items": values,
                }
            )
    return scores


def _render_chat(path: Path, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        thinking = row.get("enable_thinking", True)
        row["query"] = render_prompt(tokenizer, template, row["messages"], enable_thinking=thinking)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
