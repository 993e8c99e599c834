"""Scores of tasks that run what the model writes: pass@k, with every program judged in the sandbox."""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import comb
from typing import Any

from smolmake.errors import UserError
from smolmake.evaluate.code_metric import CODE_METRIC, METRIC, Computed
from smolmake.evaluate.sandbox import Sandbox, find_sandbox

KEY = "evaluation.suites.*.tasks"


class CodeScores:
    """pass@k as the harness's `code_eval` gives it; counts the verdicts."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.verdicts = sandbox, Counter[str]()

    def __call__(self, references: list[str], predictions: list[list[str]], k: list[int]) -> Computed:
        pairs = [(program, tests) for tests, asked in zip(references, predictions, strict=True) for program in asked]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            found = list(pool.map(lambda pair: self.sandbox.judge(*pair), pairs))
        self.verdicts.update(found)
        each, results = iter(found), dict[int, list[Any]]()
        for number, asked in enumerate(predictions):
            verdicts = list(islice(each, len(asked)))
            results[number] = [(at, {"passed": one == "passed", "result": one}) for at, one in enumerate(verdicts)]
        counts = [(len(told), sum(one["passed"] for _, one in told)) for told in results.values()]
        fewest = min((n for n, _ in counts), default=0)
        return {f"pass@{size}": mean_pass_at(size, counts) for size in k if size <= fewest}, results


def mean_pass_at(k: int, counts: list[tuple[int, int]]) -> float:
    """The mean chance that one of k programs is right, of n with c right ones: 1 - C(n - c, k) / C(n, k), without bias
    (Chen et al. 2021, https://arxiv.org/abs/2107.03374)."""
    return sum(1 - comb(n - c, k) / comb(n, k) for n, c in counts) / len(counts)


def prepare_code_tasks(tasks: dict[str, Any]) -> CodeScores | None:
    """The scores of tasks that run what the model writes; None where none of these does.

    Raises:
        UserError: for a task that runs it by a way of its own, and where there is no sandbox.
    """
    unsafe = {name: task for name, task in tasks.items() if getattr(task, "UNSAFE_CODE", False)}
    for name, task in unsafe.items():
        if not any(_knows_metric(each) for each in (*task._metric_fn_list.values(), task.config.process_results)):
            raise UserError(
                f"the task {name} runs what the model writes in a way of its own, outside a sandbox",
                key=KEY, value=name, remedy=f"take it out, or score it by `{METRIC}` as humaneval and mbpp do",
            )  # fmt: skip
    CODE_METRIC.score = scores = CodeScores(find_sandbox()) if unsafe else None
    return scores


def _knows_metric(function: Any) -> bool:
    """Whether a function's module holds the metric; a task keeps a method of the function itself."""
    names = getattr(getattr(function, "__self__", function), "__globals__", {})
    return any(each is CODE_METRIC for each in names.values())


def tell_verdicts(scores: CodeScores | None) -> None:
    """Say in the log what became of the programs."""
    if scores is not None:
        found = ", ".join(f"{count} {verdict}" for verdict, count in scores.verdicts.most_common())
        print(f"programs in the sandbox: {found}", file=sys.stderr, flush=True)
