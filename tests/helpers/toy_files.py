"""Reading the toy's files, for its tests, and what their columns and sizes must be."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from generators.dirt import planted_items

SEED = 7
Row = dict[str, Any]
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
KWARGS = pa.struct(
    [
        ("custom_instructions", pa.string()),
        ("enable_thinking", pa.bool_()),
        ("python_tools", pa.list_(pa.string())),
        ("xml_tools", pa.list_(pa.string())),
    ]
)
TEXT = {"text": pa.string()}
WITH_ID = {"text": pa.string(), "id": pa.string()}
COLUMNS = {
    "code.parquet": {"content": pa.string(), "path": pa.string(), "license": pa.string()},
    "english.jsonl": {**WITH_ID, "origin": pa.string()},
    "mathematics.parquet": TEXT,
    "spanish.jsonl": WITH_ID,
    "german.parquet": WITH_ID,
    "notebooks.jsonl": TEXT,
    "reasoning.jsonl": {"messages": MESSAGES},
    "conversations.parquet": {"messages": MESSAGES, "chat_template_kwargs": KWARGS},
    "preferences.parquet": {
        "prompt": pa.string(),
        "chosen": MESSAGES,
        "rejected": MESSAGES,
        "chat_template_kwargs": KWARGS,
    },
    "preference_prompts.jsonl": {"prompt": pa.string(), "chat_template_kwargs": None, "answer": pa.string()},
}
CHARACTERS = {  # bounds of all texts of a source together
    "code.parquet": (1_200_000, 1_700_000),
    "english.jsonl": (500_000, 1_800_000),
    "mathematics.parquet": (900_000, 1_150_000),
    "spanish.jsonl": (700_000, 900_000),
    "german.parquet": (700_000, 900_000),
    "notebooks.jsonl": (1_300_000, 1_600_000),
}


def table(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    return pj.read_json(path, pj.ReadOptions(block_size=1 << 25))


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def task(toy: Path, name: str) -> list[Row]:
    return lines(toy / "tasks" / f"{name}.jsonl")


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def documents(toy: Path, name: str) -> list[str]:
    column = "content" if name == "code.parquet" else "text"
    return [str(text) for text in table(toy / name).column(column).to_pylist()]


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@cache
def planted_words() -> tuple[str, ...]:
    return tuple(plain(item) for item in planted_items(SEED))


def is_planted(text: str) -> bool:
    return "answer" in text.lower() and any(words in plain(text) for words in planted_words())
