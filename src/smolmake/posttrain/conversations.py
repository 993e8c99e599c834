"""Conversations and preference pairs in SmolTalk2's columns, as datasets that TRL takes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from datasets import Dataset

from smolmake.data.hub import hub_rows
from smolmake.data.sources import data_files, read_rows
from smolmake.errors import UserError

SETTINGS = "chat_template_kwargs"


def read_conversations(places: dict[str, dict[str, Any]], toy_folders: dict[str, Path], seed: int) -> Dataset:
    """Rows with `messages` (and `chat_template_kwargs` where present) of all datasets, each by its share, shuffled.

    `share` takes that part of a dataset's rows, drawn at random: a subsample, as in SmolLM3's `weight`.
    """
    chosen: list[dict[str, Any]] = []
    for name, place in sorted(places.items()):
        rows = _rows(name, place, toy_folders.get(name), ["messages"])
        for row in rows:
            check_messages(row["messages"], name)
        random.Random(f"{seed}:{name}").shuffle(rows)
        chosen += rows[: int(len(rows) * place["share"])]
    random.Random(seed).shuffle(chosen)
    return Dataset.from_list(_with_settings(chosen, ["messages"]))


def read_pairs(places: dict[str, dict[str, Any]], toy_folders: dict[str, Path], seed: int) -> Dataset:
    """Rows with `chosen` and `rejected` conversations, each dataset by its share, shuffled.

    TRL finds the prompt as their common beginning.
    """
    pairs: list[dict[str, Any]] = []
    for name, place in sorted(places.items()):
        rows = _rows(name, place, toy_folders.get(name), ["chosen", "rejected"])
        for row in rows:
            check_messages(row["chosen"], name)
            check_messages(row["rejected"], name)
        if (share := place.get("share", 1.0)) < 1:
            random.Random(f"{seed}:{name}").shuffle(rows)
            rows = rows[: int(len(rows) * share)]
        pairs += rows
    random.Random(seed).shuffle(pairs)
    return Dataset.from_list(_with_settings(pairs, ["chosen", "rejected"]))


def check_messages(messages: Any, name: str) -> None:
    """Raise UserError unless `messages` is a list of {role, content} that ends with the assistant."""
    good = isinstance(messages, list) and messages and all(
        isinstance(message, dict) and isinstance(message.get("content"), str) and "role" in message
        for message in messages
    )  # fmt: skip
    if not good or messages[-1]["role"] != "assistant":
        raise UserError(
            "a row is not a conversation that the assistant ends",
            key=name,
            value=messages,
            remedy="`messages` must be a list of {role, content}, the last one with the role assistant",
        )


def _rows(name: str, place: dict[str, Any], toy_folder: Path | None, columns: list[str]) -> list[dict[str, Any]]:
    if "hub" in place:
        rows = list(hub_rows(place, name))
        missing = [column for column in columns if rows and column not in rows[0]]
        if missing:
            raise UserError(
                f"the dataset has no column `{missing[0]}`", file=place["hub"], key=name, value=missing[0],
                remedy=f"take a dataset with the columns {', '.join(columns)}",
            )  # fmt: skip
        return rows
    files = data_files(place, toy_folder / "files" if toy_folder is not None else None)
    for file in files:
        next(read_rows(file, place["format"], columns), None)  # tells a missing column
    return [row for file in files for row in read_rows(file, place["format"])]


def _with_settings(rows: list[dict[str, Any]], columns: list[str]) -> list[dict[str, Any]]:
    """The columns, and `chat_template_kwargs` if any row has it; without it a row thinks, as the template does."""
    kept = [{column: row[column] for column in columns} for row in rows]
    if any(row.get(SETTINGS) for row in rows):
        for row, original in zip(kept, rows, strict=True):
            row[SETTINGS] = original.get(SETTINGS) or {"enable_thinking": True}
    return kept
