"""Suites: tasks of the lm-evaluation-harness itself, with the data it fetches from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smolmake.errors import UserError
from smolmake.evaluate.suite_items import check_known
from smolmake.recipe.evaluation import HarnessTasks
from smolmake.stats import mean_interval


def run_suite(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    place: Path,
    asked: HarnessTasks,
    manager: TaskManager | None = None,
    batch_size: int = 16,
) -> list[dict[str, Any]]:
    """Score a suite: one entry per task and metric, in the form of scores.json. `place` is the checkpoint's folder;
    `manager` knows the tasks (the harness's own by default).

    Raises:
        UserError: if the harness has no such task, its data cannot be had, or it runs what the model writes.
    """
    if manager is None:
        manager = TaskManager(metadata={"tokenizer": str(place), "max_seq_lengths": asked.lengths or None})
    check_known(asked.tasks, manager)
    language_model = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    rounds = [_run(language_model, manager, asked, seed) for seed in range(asked.repeats)]
    return [
        score
        for task, items in sorted(rounds[0].items())
        for metric in items[0].get("metrics", [])
        if (score := _score(task, metric, [samples[task] for samples in rounds])) is not None
    ]


def _run(model: HFLM, manager: TaskManager, asked: HarnessTasks, seed: int) -> dict[str, list[dict[str, Any]]]:
    """The samples of all tasks, answered once."""
    try:
        results = simple_evaluate(
            model=model,
            tasks=asked.tasks,
            task_manager=manager,
            num_fewshot=asked.shots,
            limit=asked.limit,
            apply_chat_template=asked.chat,
            fewshot_as_multiturn=bool(asked.chat and asked.shots),
            system_instruction=asked.system or None,
            gen_kwargs=asked.generation or None,
            bootstrap_iters=0,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=0,
        )
    except OSError as error:
        raise UserError(
            "the data of a task cannot be had",
            key="evaluation.suites.*.tasks",
            value=error,
            remedy="check the network and HF_TOKEN, or fill the cache (HF_DATASETS_CACHE) where there is a network",
        ) from None
    except ValueError as error:
        if "unsafe" not in str(error):
            raise
        raise UserError(
            "a task runs what the model writes, which is not done outside a sandbox",
            key="evaluation.suites.*.tasks",
            value=error,
            remedy="take it out of the suite",
        ) from None
    samples: dict[str, list[dict[str, Any]]] = results["samples"]
    return samples


def _score(task: str, metric: str, rounds: list[list[dict[str, Any]]]) -> dict[str, Any] | None:
    """One task and metric over the mean of its rounds, with a 95 % interval; None if it is no number per item."""
    try:
        values = [sum(float(item[metric]) for item in answers) / len(rounds) for answers in zip(*rounds, strict=True)]
    except (TypeError, ValueError):
        return None
    value, low, high = mean_interval(values)
    choices = [len(item["arguments"]) for item in rounds[0]]
    multiple = min(choices) > 1
    return {
        "task": task,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "n": len(values),
        "chance": sum(1 / count for count in choices) / len(choices) if multiple else 0.0,
        "formulation": "CF" if multiple else "FG",
        "items": values,
    }
