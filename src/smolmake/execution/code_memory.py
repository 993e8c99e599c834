"""What was found out about a script's code, kept in a tree's .smolmake/code.json.

To follow what a script reaches takes a second, and every job of a cluster would do it. What was found holds until a
file of the package, or a module beside the script, is written to, added or removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from smolmake.files import canonical_json, digest, file_stamp, write_atomically

CACHE = Path(".smolmake") / "code.json"
READERS = ("code_memory", "fingerprint", "definitions", "code_text")
Definitions = dict[str, dict[str, str]]  # file -> definition -> digest
_known: dict[Path, Any] = {}  # script -> state of its folders, what was found


def known_code(script: Path, package: Path, find: Callable[[], Definitions]) -> Definitions:
    """What is known of a script that uses a package and the modules beside it, or is found out now."""
    state = _state_of(package, script.parent)
    known = _known.get(script)
    if known is None or known[0] != state:
        known = _known[script] = [state, find()]
    found: Definitions = known[1]
    return found


@contextlib.contextmanager
def remembered_code(root: Path) -> Iterator[None]:
    """Within it, what is found out about code is kept in a tree, and not found out again while it holds."""
    readers = [Path(__file__).with_name(f"{name}.py") for name in READERS]
    maker = digest([sys.version, *(file_stamp(file.stat()) for file in readers)])  # what another one found may differ
    before: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads((root / CACHE).read_text(encoding="utf-8"))
        before = kept["scripts"] if kept["maker"] == maker else {}
    _known.update({Path(script): known for script, known in before.items()})
    yield
    now = {str(script): known for script, known in _known.items() if script.is_relative_to(root.absolute())}
    if now != before:
        with contextlib.suppress(OSError):  # a read-only tree only loses the cache
            write_atomically(root / CACHE, canonical_json({"maker": maker, "scripts": now}))


@cache
def _state_of(package: Path, beside: Path) -> str:
    """What differs after a file of a package, or a module in another folder, was written to, added or removed.

    It is looked at once in a process, before anything in the folders is read: what is found out never is older.
    """
    found = []
    for folder, ending in ((package, ""), (beside, ".py")):
        for place, inner, names in os.walk(folder, followlinks=True):
            inner[:] = [name for name in inner if name != "__pycache__"]
            for file in (os.path.join(place, name) for name in names if name.endswith(ending)):
                with contextlib.suppress(OSError):  # a link to nothing, as editors make
                    found.append([file, file_stamp(os.stat(file))])
    return digest(sorted(found))
