"""metrics.jsonl: one line an optimizer step, append-only, cut back to the step that a run resumes from."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from smolmake.files import json_lines

METRICS = "metrics.jsonl"


class Metrics:
    """Appends to a file, if `active`; `resume_from` drops the lines of steps that will be done again.

    Lines that a full disk does not take wait for the next write: a disk that fills up must not end a training.
    """

    def __init__(self, path: Path, resume_from: int, active: bool = True) -> None:
        self.descriptor: int | None = None
        self.waiting = b""
        self.kept_seconds = 0.0  # of the steps that the file has
        if not active:
            return
        kept = [line for line in read_metrics(path) if line["step"] < resume_from]
        self.kept_seconds = math.fsum(line.get("seconds", 0.0) for line in kept)
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, **values: Any) -> None:
        if self.descriptor is None:
            return
        self.waiting += (json.dumps(values) + "\n").encode()
        try:
            while self.waiting:
                self.waiting = self.waiting[os.write(self.descriptor, self.waiting) :]
        except OSError as error:
            print(f"{METRICS} has to wait: {error.strerror}", file=sys.stderr)

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def read_metrics(path: Path, last: int | None = None) -> list[dict[str, Any]]:
    """The whole lines of a metrics file, or of its last so many bytes."""
    return list(json_lines(path, last))
