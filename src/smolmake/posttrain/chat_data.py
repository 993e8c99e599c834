"""Conversations and preference pairs in SmolTalk2's columns, as datasets that TRL takes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from smolmake.data.columns import MissingColumn
from smolmake.data.hub import hub_rows
from smolmake.data.readers import data_files, read_rows
from smolmake.errors import UserError
from smolmake.graph.specs.data import DatasetSpec, HubDataset
from smolmake.graph.specs.posttrain import ConversationsSpec
from smolmake.posttrain.columns import CONVERSATIONS, told_of_section

SETTINGS = "chat_template_kwargs"


def read_conversations(
    datasets: dict[str, ConversationsSpec], generated: dict[str, Path], seed: int, section: str, columns: list[str]
) -> Dataset:
    """Rows with the columns (and `chat_template_kwargs` where present) of all datasets, shuffled.

    `fraction` takes that part of a dataset's rows, drawn at random: a subsample, as in SmolLM3's `weight`. `section` is
    the recipe's, for errors. TRL finds the prompt of `chosen` and `rejected` as their common beginning.
    """
    kept: list[dict[str, Any]] = []
    for name, dataset in sorted(datasets.items()):
        key = f"{section}.data.{name}"
        rows = read_dataset(key, dataset.files, generated.get(name), columns)
        for row in rows:
            for column in columns:
                check_messages(row[column], key, column)
        if columns == CONVERSATIONS or dataset.fraction < 1:  # whole sets of pairs keep their order
            random.Random(f"{seed}:{name}").shuffle(rows)
        kept += rows[: int(len(rows) * dataset.fraction)]
    random.Random(seed).shuffle(kept)
    names = [*columns, *([SETTINGS] if any(row.get(SETTINGS) for row in kept) else [])]
    thinks = {SETTINGS: {"enable_thinking": True}}  # as the template does without it
    return Dataset.from_list([{name: row.get(name) or thinks[name] for name in names} for row in kept])


def check_messages(messages: Any, key: str, column: str) -> None:
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


def read_dataset(key: str, dataset: DatasetSpec, generated: Path | None, columns: list[str]) -> list[dict[str, Any]]:
    """All rows of a dataset; UserError, with its key in the recipe, for one that lacks a column."""
    found: list[tuple[str | Path, Iterator[dict[str, Any]]]]
    if isinstance(dataset, HubDataset):
        found = [(dataset.hub, hub_rows(dataset, key))]
    else:
        found = [(file, read_rows(file, dataset.format)) for file in data_files(dataset, generated)]
    rows = []
    try:
        for file, its_rows in found:
            for number, row in enumerate(its_rows, 1):
                for column in columns:
                    if column not in row:
                        raise MissingColumn(column, row, file=file, place=f"row {number}")
                rows.append(row)
    except UserError as error:
        raise told_of_section(error, key) from None
    return rows
