"""The harness's metric `code_eval`, which runs programs with the job's own rights, replaced before a task can have it.

Apart from the scores and the sandbox, since decontamination loads tasks too and runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import evaluate

METRIC = "code_eval"
Computed = tuple[dict[str, float], dict[int, list[Any]]]


class CodeMetric:
    """What tasks get as the metric: it scores as it is told, and nothing before, such as where a task tries it."""

    score: Callable[[list[str], list[list[str]], list[int]], Computed] | None = None

    def compute(self, references: list[str], predictions: list[list[str]], k: list[int] | None = None) -> Computed:
        """pass@k for each k, and what became of each program; a reference is the tests of a question's programs."""
        return ({}, {}) if self.score is None else self.score(references, predictions, k or [1])


CODE_METRIC = CodeMetric()


@contextmanager
def replaced_metric() -> Iterator[None]:
    """Tasks that are loaded here get `CODE_METRIC`."""
    load = evaluate.load

    def load_other(path: str, *args: Any, **settings: Any) -> Any:
        return CODE_METRIC if path == METRIC else load(path, *args, **settings)

    with patch.object(evaluate, "load", load_other):
        yield
