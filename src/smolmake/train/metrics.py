"""metrics.jsonl: one line an optimizer step, append-only, cut back to the step that a run resumes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO


class Metrics:
    """Appends to a file, if `active`; `resume_from` drops the lines of steps that will be done again."""

    def __init__(self, path: Path, resume_from: int, active: bool = True) -> None:
        self.file: TextIO | None = None
        if not active:
            return
        kept = [line for line in read_metrics(path) if line["step"] < resume_from]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.file = path.open("a")

    def write(self, **values: Any) -> None:
        if self.file is not None:
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; a last line that was cut by a kill is left out."""
    lines = []
    if path.exists():
        for text in path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines
