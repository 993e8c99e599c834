"""Writing rows as JSON lines or Parquet, byte for byte the same every time."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
TEMPLATE_KWARGS = pa.struct(
    [
        ("custom_instructions", pa.string()),
        ("enable_thinking", pa.bool_()),
        ("python_tools", pa.list_(pa.string())),
        ("xml_tools", pa.list_(pa.string())),
    ]
)
TYPES = {
    "messages": MESSAGES,
    "chosen": MESSAGES,
    "rejected": MESSAGES,
    "chat_template_kwargs": TEMPLATE_KWARGS,
}


def write_table(path: Path, rows: Sequence[Row]) -> int:
    """Write rows to `path`, whose ending picks the format; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
    else:
        schema = pa.schema([(name, TYPES.get(name, pa.string())) for name in rows[0]])
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return len(rows)


def keyed_fraction(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
