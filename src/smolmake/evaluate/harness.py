"""Tasks of the lm-evaluation-harness, asked of a model: its own table, with an interval for each number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smolmake.errors import UserError
from smolmake.evaluate.answers import answers_of
from smolmake.evaluate.choices import BITS, choice_scores, formulation_of
from smolmake.evaluate.code_scores import prepare_code_tasks, tell_verdicts
from smolmake.evaluate.harness_model import HarnessModel
from smolmake.evaluate.harness_tasks import Tasks
from smolmake.evaluate.uncertainty import bootstrapped, chance_of, guessed, question_clusters
from smolmake.recipe.evaluation import HarnessTasks
from smolmake.stats import item_interval, weighted_mean

FILLER = -1.0  # RULER's, of an item at the other lengths
Result = dict[str, Any]
Row = dict[str, Any]


def run_harness(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: HarnessTasks,
    tasks: Tasks,
    answers: list[Row] | None = None,
    first: int = 0,
) -> list[Row]:
    """Score tasks: a row for each task or group, metric and filter, in the form of scores.json.

    What was asked and answered is added to `answers`, in the form of answers.parquet. `first` is the number of the
    first answer to each item, where another job gives those before it.

    Raises:
        UserError: if the harness has no such task, its data cannot be had, it runs what the model writes and no sandbox
            can be had, or one of its metrics gives no number.
    """
    language_model = HarnessModel(model, tokenizer)
    tasks.pin(asked.revisions)
    loaded = tasks.load_anew(asked.tasks)  # a task remembers the shots and settings that it was asked with
    code = prepare_code_tasks(loaded["tasks"])
    language_model.keeps_thoughts = {
        name for name, task in loaded["tasks"].items() if _metadata(task).get("thinking") == "keep"
    }
    rounds = [_run(language_model, tasks, asked, seed) for seed in range(first, first + asked.repeats)]
    tell_verdicts(code)
    rows = []
    for name, task in sorted(loaded["tasks"].items()):
        noted = language_model.noted[name]
        of_task = list(_task_rows(task, rounds))
        _check_complete(task, of_task, asked)
        of_task += _choice_rows(task, rounds[0], noted.added)
        told: Row = {
            "shots": rounds[0]["n-shot"].get(name) or 0,
            "repeats": asked.repeats,
            "batch_tokens": language_model.engine.budget,
            "dtype": str(model.dtype).removeprefix("torch."),
            "merged": sorted(noted.merged),
            "truncated": len(noted.truncated),
            "task_items": len(task.eval_docs),
        }
        if noted.cut:
            parts = {"thoughts": noted.closed, "unclosed": noted.unclosed, "cut": noted.cut}
            told |= {part: sum(values) / len(values) for part, values in parts.items()}
        rows += [row | told for row in of_task]
        if answers is not None:
            answers += answers_of(task, rounds)
    of_groups = [row for group in loaded.get("groups", {}).values() for row in _group_rows(group, rows, rounds)]
    return rows + sorted(of_groups, key=lambda row: row["task"])


def run_suite(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    place: Path,
    asked: HarnessTasks,
    answers: list[Row] | None = None,
    first: int = 0,
) -> list[Row]:
    """As `run_harness`, for the harness's own tasks; `place` is the checkpoint's folder."""
    metadata = {"tokenizer": str(place), "max_seq_lengths": asked.lengths or None}
    return run_harness(model, tokenizer, asked, Tasks(metadata=metadata), answers, first)


def _run(model: HarnessModel, tasks: Tasks, asked: HarnessTasks, seed: int) -> Result:
    """What the harness says of all tasks, answered once."""
    results: Result = simple_evaluate(
        model=model,
        tasks=asked.tasks,
        task_manager=tasks,
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
        confirm_run_unsafe_code=True,  # as prepare_code_tasks allows: in the sandbox
    )
    return results


def _keys(result: Result) -> Iterator[tuple[str, str, str]]:
    """The numbers of a task or group: key, metric and filter."""
    for key in result:
        metric, comma, filtered = key.rpartition(",")
        if comma and not metric.endswith("_stderr"):
            yield key, metric, filtered


def _metadata(task: Task) -> dict[str, Any]:
    return getattr(task.config, "metadata", None) or {}


def _task_rows(task: Task, rounds: list[Result]) -> Iterator[Row]:
    """A task's rows, without those of RULER's lengths that no item has."""
    name, first = task.task_name, rounds[0]
    chance, formulation = chance_of(task, first["samples"][name]), formulation_of(task, first["samples"][name])
    by_length = "max_length" in first["samples"][name][0]["doc"]
    better = {str(metric): value for metric, value in first["higher_is_better"][name].items()}
    aggregations = {str(metric): aggregation for metric, aggregation in task.aggregation().items()}
    for key, metric, filtered in _keys(first["results"][name]):
        values = [_values(result["samples"][name], metric, filtered) for result in rounds]
        length = int(metric) if by_length and metric.isdigit() else None
        if length is not None:
            values = [[value for value in each if value != FILLER] for each in values]
            if not values[0]:
                continue
        value = _number(name, key, [result["results"][name][key] for result in rounds])
        items = _item_scores(values, value)
        listed = [each for each in values[0] if isinstance(each, list) and all(isinstance(one, bool) for one in each)]
        several = len(listed) == len(values[0])  # right or wrong more than once an item, as of ifeval's instructions
        share = several or (bool(items) and all(0 <= item <= 1 for item in items))
        clusters = [] if length is not None else _clusters(task, first["samples"][name], filtered, items)
        if items:
            low, high = item_interval(items, clusters, len(rounds), share)
        else:
            low, high = bootstrapped(metric, values, aggregations.get(metric) or mean)
        written = len(rounds) if task.OUTPUT_TYPE == "generate_until" else 1  # a choice is the same each time
        yield {
            "task": name,
            "metric": metric,
            "filter": filtered,
            "length": length,
            "value": value,
            "low": max(low, 0.0) if share else low,
            "high": min(high, 1.0) if share else high,
            "n": len(values[0]),
            "share": share,
            "higher_is_better": better.get(metric) is not False,
            **guessed(chance if share else 0.0, items, written),
            "formulation": formulation,
            "items": items,
            "samples": [[float(each) for each in answers] for answers in values] if items and len(rounds) > 1 else [],
            "clusters": clusters,
        }


def _clusters(task: Task, samples: list[dict[str, Any]], filtered: str, items: list[float]) -> list[int]:
    """The numbers of the questions of items, where several items ask one question."""
    asked = [sample for sample in samples if sample["filter"] == filtered]
    return question_clusters(task, asked) if len(asked) == len(items) else []


def _choice_rows(task: Task, result: Result, added: dict[tuple[int, int], int]) -> Iterator[Row]:
    """What the likelihoods of choices tell beside the harness's metrics, which have other names."""
    samples = result["samples"][task.task_name]
    samples = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    for metric, items in choice_scores(task, samples, added).items():
        share = metric != BITS
        clusters = _clusters(task, samples, samples[0]["filter"], items)
        low, high = item_interval(items, clusters, 1, share)
        yield {
            "task": task.task_name,
            "metric": metric,
            "filter": "none",
            "length": None,
            "value": math.fsum(items) / len(items),
            "low": max(low, 0.0),
            "high": high,
            "n": len(items),
            "share": share,
            "higher_is_better": share,
            **guessed(chance_of(task, samples) if share else 0.0, items, 1),
            "formulation": formulation_of(task, samples),
            "items": items,
            "clusters": clusters,
            "beside": True,
        }


def _values(samples: list[dict[str, Any]], metric: str, filtered: str) -> list[Any]:
    """What a metric's aggregation was made from, item by item."""
    found = [{str(each): item[each] for each in item["metrics"]} for item in samples if item["filter"] == filtered]
    return [item[metric] for item in found if metric in item]


def _number(task: str, key: str, values: list[Any]) -> float:
    """The mean of a number over the rounds."""
    try:
        value = sum(float(each) for each in values) / len(values)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"the metric {key} of the task {task} gives no number",
            key="metric_list", value=values[0], remedy="choose another metric, or take the task out",
        )  # fmt: skip
    return value


def _item_scores(rounds: list[list[Any]], value: float) -> list[float]:
    """The score of each item, if the value is their mean; else none, as for BLEU or a perplexity."""
    try:
        items = [sum(float(each) for each in answers) / len(rounds) for answers in zip(*rounds, strict=True)]
    except (TypeError, ValueError):
        return []
    return items if items and math.isclose(math.fsum(items) / len(items), value, abs_tol=1e-12) else []


def _check_complete(task: Task, rows: list[Row], asked: HarnessTasks) -> None:
    """Raise UserError for a metric of the task, or a length that was asked for, that gave no row."""
    asked_metrics = getattr(task, "_metric_fn_list", None) or task.higher_is_better()  # which grows with what is given
    given, named = {row["metric"] for row in rows}, {str(metric) for metric in asked_metrics}
    if any(row["length"] is not None for row in rows):
        named = {str(length) for length in asked.lengths}
    elif given - named:  # a metric that gives several numbers under names of its own
        named = set()
    missing = ", ".join(sorted(named - given)) if rows else "any metric"
    if missing:
        raise UserError(
            f"the task {task.task_name} gives no score for {missing}",
            key="metric_list", value=", ".join(sorted(given)) or "nothing was scored",
            remedy="name metrics that the task's output type or its process_results gives",
        )  # fmt: skip


def _group_rows(group: Any, rows: list[Row], rounds: list[Result]) -> Iterator[Row]:
    """The means of a group over its tasks, weighted as the group says; with a metric that no task has, none.

    What is told beside the tasks' metrics has the weights of the group's first one.
    """
    members = {task.task_name for task in group.get_all_tasks()}
    by_size = {str(each.metric): each.weight_by_size for each in group.aggregate_metric_list or ()}
    of_members = [row for row in rows if row["task"] in members]
    for key, metric, filtered in _keys(rounds[0]["results"][group.name]):
        parts = [row for row in of_members if (row["metric"], row["filter"]) == (metric, filtered)]
        if parts:
            value = _number(group.name, key, [result["results"][group.name][key] for result in rounds])
            yield _group_row(group.name, sorted(members), parts, by_size[metric], value)
    for metric in dict.fromkeys(row["metric"] for row in of_members if row.get("beside")):
        parts = [row for row in of_members if row["metric"] == metric and row.get("beside")]
        if by_size and len(parts) == len(members):
            yield _group_row(group.name, sorted(members), parts, next(iter(by_size.values())), None) | {"beside": True}


def _group_row(name: str, members: list[str], parts: list[Row], by_size: bool, value: float | None) -> Row:
    """A group's mean over its tasks, whose value the harness gives, or None."""
    weights = [part["n"] if by_size else 1 for part in parts]
    mean_value, low, high = weighted_mean([(part["value"], part["low"], part["high"]) for part in parts], weights)
    value = mean_value if value is None else value
    low, high, share = low + value - mean_value, high + value - mean_value, all(part["share"] for part in parts)
    formulations = {part["formulation"] for part in parts}
    chances = weighted_mean([(part["chance"], part["chance_low"], part["chance_high"]) for part in parts], weights)
    return {
        "task": name,
        "metric": parts[0]["metric"],
        "filter": parts[0]["filter"],
        "length": parts[0]["length"],
        "value": value,
        "low": max(low, 0.0) if share else low,
        "high": min(high, 1.0) if share else high,
        "n": sum(part["n"] for part in parts),
        "share": share,
        "higher_is_better": parts[0]["higher_is_better"],
        **dict(zip(("chance", "chance_low", "chance_high"), chances, strict=True)),
        "formulation": formulations.pop() if len(formulations) == 1 else "",
        "items": [],
        "tasks": members,
    }
