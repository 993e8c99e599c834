"""Suites: tasks of the lm-evaluation-harness itself, with the data it fetches from the hub."""

from __future__ import annotations

from typing import Any

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smolmake.errors import UserError, did_you_mean
from smolmake.evaluate.statistics import mean_interval

# The harness's metrics that are shown: the others repeat them in another form.
METRICS_LEFT_OUT = ("acc_bytes", "exact_match_stderr")


def run_suite(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, spec: dict[str, Any], batch_size: int = 16
) -> list[dict[str, Any]]:
    """Score a suite: one entry per task and metric, in the form of scores.json.

    Raises:
        UserError: if the harness has no such task, or its data cannot be had.
    """
    manager = TaskManager()
    for task in spec["tasks"]:
        if task not in manager.all_tasks:
            raise UserError(
                "the lm-evaluation-harness has no such task",
                key="evaluation.suites.*.tasks",
                value=task,
                remedy=did_you_mean(task, manager.all_tasks),
            )
    try:
        results = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
            tasks=spec["tasks"],
            task_manager=manager,
            num_fewshot=spec["shots"],
            limit=spec["limit"],
            apply_chat_template=spec["chat"],
            fewshot_as_multiturn=bool(spec["chat"] and spec["shots"]),
            bootstrap_iters=0,
            random_seed=0,
            numpy_random_seed=0,
            torch_random_seed=0,
            fewshot_random_seed=0,
        )
    except (ConnectionError, OSError) as error:
        raise UserError(
            "the data of a task cannot be had",
            key="evaluation.suites.*.tasks",
            value=error,
            remedy="check the network and HF_TOKEN, or fill the cache (HF_DATASETS_CACHE) where there is a network",
        ) from None
    return [
        score
        for task, items in sorted(results["samples"].items())
        for metric in items[0].get("metrics", [])
        if metric not in METRICS_LEFT_OUT and (score := _score(task, metric, items)) is not None
    ]


def _score(task: str, metric: str, items: list[dict[str, Any]]) -> dict[str, Any] | None:
    """One task and metric with its 95 % interval; None for a metric that is no number per item."""
    try:
        values = [float(item[metric]) for item in items]
    except (TypeError, ValueError):
        return None
    value, low, high = mean_interval(values)
    choices = [len(item["arguments"]) for item in items]
    multiple = items[0].get("doc_hash") is not None and min(choices) > 1
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
