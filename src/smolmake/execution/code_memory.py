"""What was found out about code, kept in a tree's .smolmake/code.json by the paths, sizes and times of files.

Reading all modules takes a second, and every job of a cluster would do it. What is known of a script holds until a
file of Python in one of its folders is written to, added or removed; then only what is new in them is read again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from smolmake.execution.definitions import Module, read_module
from smolmake.files import canonical_json, digest, file_stamp, write_atomically

CACHE = Path(".smolmake") / "code.json"
READERS = ("code_memory", "fingerprint", "definitions", "code_text", "scopes")


class Memory:
    """What code.json says: `scripts` (path -> state of its folders, what is known of it) and, read only when needed,
    `modules` (path -> stamp, what is in it)."""

    def __init__(self, kept: dict[str, Any]) -> None:
        self.scripts: dict[str, list[Any]] = kept.get("scripts", {})
        self._modules: str = kept.get("modules", "{}")
        self.changed = False

    @cached_property
    def modules(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = json.loads(self._modules)
        return found

    def script(self, script: Path, state: str) -> list[Any] | None:
        """What is known of a script, if its folders are in this state."""
        then, known = self.scripts.get(str(script), (None, None))
        return known if then == state else None

    def keep_script(self, script: Path, state: str, known: list[Any]) -> None:
        self.scripts[str(script)] = [state, known]
        self.changed = True

    def module(self, path: Path) -> Module:
        place = str(path.absolute())
        entry = self.modules.get(place)
        if entry is None or entry[0] != file_stamp(path.stat()):
            with path.open(encoding="utf-8") as file:
                stamp = file_stamp(os.fstat(file.fileno()))
                entry = self.modules[place] = [stamp, read_module(file.read(), str(path))]
            self.changed = True
        return Module.from_json(entry[1])


_memories: list[Memory] = []


def memory() -> Memory:
    """That of the tree in hand; outside of `remembered_code` one that is empty."""
    return _memories[-1] if _memories else Memory({})


@contextlib.contextmanager
def remembered_code(root: Path) -> Iterator[None]:
    """Within it, what is found out about code is kept in a tree, and not found out again while it holds."""
    readers = [Path(__file__).with_name(f"{name}.py") for name in READERS]
    maker = [sys.version, *(file_stamp(file.stat()) for file in readers)]  # another Python or another way to read
    before: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        kept = json.loads((root / CACHE).read_text(encoding="utf-8"))
        before = kept if kept.get("maker") == maker else {}
    now = Memory(before)
    _memories.append(now)
    try:
        yield
    finally:
        _memories.remove(now)
    if now.changed:
        kept = {"maker": maker, "scripts": now.scripts, "modules": canonical_json(now.modules)}
        with contextlib.suppress(OSError):  # a read-only tree only loses the cache
            write_atomically(root / CACHE, canonical_json(kept))


@cache
def state_of(*folders: Path) -> str:
    """What differs after a file of Python in these folders was written to, added or removed.

    It is looked at once in a process, before anything in the folders is read: what is found out never is older.
    """
    found = []
    for folder in folders:
        for place, inner, names in os.walk(folder, followlinks=True):
            inner[:] = [name for name in inner if name != "__pycache__"]
            for file in (os.path.join(place, name) for name in names if name.endswith(".py")):
                with contextlib.suppress(OSError):  # a link to nothing, as editors make
                    found.append([file, file_stamp(os.stat(file))])
    return digest(sorted(found))
