"""Conversations and preference pairs in SmolTalk2's columns, as datasets that TRL takes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from datasets import Dataset

from smolmake.data.hub import hub_rows
from smolmake.data.readers import MissingColumn, data_files, read_rows
from smolmake.errors import UserError
from smolmake.graph.specs.data import DatasetSpec, HubDataset
from smolmake.graph.specs.posttrain import ConversationsSpec
from smolmake.posttrain.columns import CONVERSATIONS, PAIRS, told_of_section

SETTINGS = "chat_template_kwargs"


def read_conversations(
    datasets: dict[str, ConversationsSpec], generated: dict[str, Path], seed: int, section: str
) -> Dataset:
    """Rows with `messages` (and `chat_template_kwargs` where present) of all datasets, each by its share, shuffled.

    `fraction` takes that part of a dataset's rows, drawn at random: a subsample, as in SmolLM3's `weight`.
    `section` is the recipe's, for errors.
    """
    chosen: list[dict[str, Any]] = []
    for name, dataset in sorted(datasets.items()):
        key = f"{section}.data.{name}"
        rows = _rows(key, dataset.files, generated.get(name), CONVERSATIONS)
        for row in rows:
            check_messages(row["messages"], key)
        random.Random(f"{seed}:{name}").shuffle(rows)
        chosen += rows[: int(len(rows) * dataset.fraction)]
    random.Random(seed).shuffle(chosen)
    return Dataset.from_list(_with_settings(chosen, ["messages"]))


def read_pairs(datasets: dict[str, ConversationsSpec], generated: dict[str, Path], seed: int) -> Dataset:
    """Rows with `chosen` and `rejected` conversations, each dataset by its share, shuffled.

    TRL finds the prompt as their common beginning.
    """
    pairs: list[dict[str, Any]] = []
    for name, dataset in sorted(datasets.items()):
        key = f"apo.data.{name}"
        rows = _rows(key, dataset.files, generated.get(name), PAIRS)
        for row in rows:
            for column in PAIRS:
                check_messages(row[column], key, column)
        if dataset.fraction < 1:
            random.Random(f"{seed}:{name}").shuffle(rows)
            rows = rows[: int(len(rows) * dataset.fraction)]
        pairs += rows
    random.Random(seed).shuffle(pairs)
    return Dataset.from_list(_with_settings(pairs, ["chosen", "rejected"]))


def check_messages(messages: Any, key: str, column: str = "messages") -> None:
    """Raise UserError unless `messages`, of a column of the data at `key`, is a list of {role, content} that ends with
    the assistant."""
    good = isinstance(messages, list) and messages and all(
        isinstance(message, dict) and isinstance(message.get("content"), str) and "role" in message
        for message in messages
    )  # fmt: skip
    if not good or messages[-1]["role"] != "assistant":
        raise UserError(
            "a row is not a conversation that the assistant ends",
            key=key,
            value=messages,
            remedy=f"`{column}` must be a list of {{role, content}}, the last one with the role assistant",
        )


def _rows(key: str, dataset: DatasetSpec, generated: Path | None, columns: list[str]) -> list[dict[str, Any]]:
    if isinstance(dataset, HubDataset):
        rows = list(hub_rows(dataset, key))
        for column in columns:
            if rows and column not in rows[0]:
                missing = MissingColumn(column, rows[0], file=dataset.hub, place="this dataset")
                raise told_of_section(missing, key)
        return rows
    files = data_files(dataset, generated)
    try:
        for file in files:
            next(read_rows(file, dataset.format, columns), None)  # tells a missing column
        return [row for file in files for row in read_rows(file, dataset.format)]
    except UserError as error:
        raise told_of_section(error, key) from None


def _with_settings(rows: list[dict[str, Any]], columns: list[str]) -> list[dict[str, Any]]:
    """The columns, and `chat_template_kwargs` if any row has it; without it a row thinks, as the template does."""
    kept = [{column: row[column] for column in columns} for row in rows]
    if any(row.get(SETTINGS) for row in rows):
        for row, original in zip(kept, rows, strict=True):
            row[SETTINGS] = original.get(SETTINGS) or {"enable_thinking": True}
    return kept
