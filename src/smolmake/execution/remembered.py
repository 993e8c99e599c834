"""What was found out once is kept in a tree's .smolmake, so that the next plan or job need not find it out again.

Whoever keeps something puts into its key all that the answer depends on.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from smolmake.files import write_json


def remembered(file: Path) -> dict[str, Any]:
    """What was kept in a file; nothing where there is none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(file: Path, values: dict[str, Any]) -> None:
    """Keep values in place of what the file held; a tree that is only read finds them out each time."""
    with contextlib.suppress(OSError):
        write_json(file, values)
