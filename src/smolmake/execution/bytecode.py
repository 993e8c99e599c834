"""Compiled code that Python compares with the content of its source.

By default Python believes a module's compiled code as long as size and modification time of the source are what they
were: after an edit that leaves both, the old code would run, and its result stand under the new code's id. Compiled
code that is marked so is compared by a hash of the source at each import (PEP 552), and stays so when it is renewed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import py_compile
from collections.abc import Iterable
from pathlib import Path

FLAGS = slice(4, 8)  # where compiled code says how it is to be checked
CHECKED = (3).to_bytes(4, "little")  # by the hash that it holds, each time
MODE = py_compile.PycInvalidationMode.CHECKED_HASH


def check_by_content(modules: Iterable[Path]) -> None:
    """Mark what is compiled of these modules as to be checked by content, and compile what is not yet.

    What another version of Python has compiled is removed. Where nothing can be written, all stays as it is.
    """
    for module in modules:
        ours = Path(importlib.util.cache_from_source(str(module)))
        for compiled in {ours, *ours.parent.glob(f"{module.stem}.*.pyc")}:
            with contextlib.suppress(OSError, py_compile.PyCompileError):
                if _flags(compiled) == CHECKED:
                    continue
                if compiled == ours:
                    py_compile.compile(str(module), doraise=True, invalidation_mode=MODE)
                else:
                    compiled.unlink()


def _flags(compiled: Path) -> bytes:
    try:
        with compiled.open("rb") as code:
            return code.read(FLAGS.stop)[FLAGS]
    except FileNotFoundError:
        return b""
