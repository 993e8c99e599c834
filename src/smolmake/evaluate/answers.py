"""What was asked and what a model answered, question by question: the texts behind the scores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.data.hidden_text import shown
from smolmake.files import new_file

ANSWERS = "answers.parquet"
KEPT = 1000  # characters of a longer text's beginning, and as many of its end
Answers = dict[tuple[str, int | None], dict[str, list[dict[str, Any]]]]  # rows by task and length, there by filter
TEXTS = pa.list_(pa.string())
SCHEMA = pa.schema(
    [("task", pa.string()), ("filter", pa.string()), ("item", pa.int64()), ("length", pa.int64()),
     ("question", pa.string()), ("choices", TEXTS), ("target", pa.string()), ("answers", TEXTS)]
)  # fmt: skip


def answers_of(task: Any, rounds: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row for each filter and item of one of the harness's tasks, with the answers of all rounds."""
    samples = [result["samples"][task.task_name] for result in rounds]
    for answered in zip(*samples, strict=True):
        sample = answered[0]
        question, target, choices = task.doc_to_text(sample["doc"]), sample["target"], list[str]()
        if task.OUTPUT_TYPE == "multiple_choice":
            choices = [str(choice) for choice in task.doc_to_choice(sample["doc"])]
        if not isinstance(question, str):  # the choices are several questions with one ending, as of WinoGrande
            question, target = str(target), question
        if isinstance(target, int) and target < len(choices):
            target = choices[target]
        yield {
            "task": task.task_name,
            "filter": sample["filter"],
            "item": sample["doc_id"],
            "length": sample["doc"].get("max_length"),
            "question": shortened(question),
            "choices": [shortened(choice) for choice in choices],
            "target": shortened(target if isinstance(target, str) else str(target)),
            "answers": [shortened(_answer(each, choices)) for each in answered],
        }


def _answer(sample: dict[str, Any], choices: list[str]) -> str:
    """What the model wrote, the likeliest choice, or the log-likelihood of a text."""
    given = sample["filtered_resps"]
    if choices:
        likelihoods = [each[0] for each in given[: len(choices)]]
        return choices[likelihoods.index(max(likelihoods))]
    first = given[0]
    return f"{first[0]:.4f}" if isinstance(first, tuple) else str(first)


def shortened(text: str) -> str:
    """A text without the middle of what is long, such as a document that a needle is hidden in."""
    text = shown(text)
    return text if len(text) <= 2 * KEPT + 20 else f"{text[:KEPT]} […] {text[-KEPT:]}"


def write_answers(place: Path, rows: list[dict[str, Any]]) -> None:
    with new_file(place) as beside:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), beside, compression="zstd")


def read_answers(place: Path) -> Answers:
    """What `write_answers` wrote; nothing where there is no such file."""
    found: Answers = {}
    for row in pq.read_table(place).to_pylist() if place.is_file() else []:
        found.setdefault((row["task"], row["length"]), {}).setdefault(row["filter"], []).append(row)
    return found
