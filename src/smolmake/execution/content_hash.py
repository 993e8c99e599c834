"""The content of a user's files and scripts as part of an identity.

Files are hashed once, and again only when size or time changed.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolmake.errors import UserError
from smolmake.files import digest, file_digest, write_atomically
from smolmake.listing import Listing, list_files

HASHES = Path(".smolmake") / "content"
Entry = list[Any]


def content_digest(pattern: str, root: Path) -> str:
    """A digest over the files that `pattern` means (see `list_files`): their names within it and their bytes."""
    return listing_digest(list_files(pattern, root), root)


def listing_digest(listing: Listing, root: Path) -> str:
    """A digest over listed files: their names within their folder and their bytes.

    A touch or a copy does not change it. Hashes are kept in .smolmake/content by folder, name, size and mtime.

    Raises:
        UserError: if a file cannot be read.
    """
    folder = str(listing.base.absolute())
    kept = root / HASHES / f"{digest(folder)[:32]}.json"
    known, entries, changed = _known(kept), dict[str, Entry](), False
    try:
        for name in listing.names:
            status, entry = os.stat(f"{folder}/{name}"), known.get(name)
            if entry is None or entry[0] != status.st_size or entry[1] != status.st_mtime_ns:
                entry, changed = [status.st_size, status.st_mtime_ns, file_digest(listing.base / name)], True
            entries[name] = entry
    except OSError as error:
        raise UserError(
            "this file cannot be read", file=error.filename, value=error.strerror,
            remedy="give read permission, or take it out of the data",
        ) from None  # fmt: skip
    if changed:
        with contextlib.suppress(OSError):  # a read-only tree only loses the cache
            write_atomically(kept, json.dumps(known | entries))
    return digest({name: entry[2] for name, entry in entries.items()})


def _known(file: Path) -> dict[str, Entry]:
    """The hashes that are kept of a folder: name -> [size, mtime, SHA-256]; none where the file is damaged."""
    try:
        known = json.loads(file.read_bytes())
        return {name: entry for name, entry in known.items() if len(entry) == 3}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def code_digests(script: Path) -> dict[str, str]:
    """SHA-256 of a script and of every module that it imports from its own folder, by name within that folder."""
    found: dict[str, str] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(script.parent).as_posix()
        if name in found:
            continue
        found[name] = file_digest(path)
        try:
            tree = ast.parse(path.read_bytes(), filename=str(path))
        except (SyntaxError, ValueError) as error:
            raise UserError(
                "this Python file cannot be read", file=path, value=error,
                remedy="fix that line: try it with `python -m py_compile FILE`",
            ) from None  # fmt: skip
        for module in _imports(tree, path, script.parent):
            parts = [module.joinpath(*rest) for rest in ((), ("__init__",))]
            waiting += [file for part in parts if (file := part.with_name(part.name + ".py")).is_file()]
    return dict(sorted(found.items()))


def _imports(tree: ast.AST, path: Path, folder: Path) -> Iterator[Path]:
    """Where the modules that a file imports would lie, without `.py`, if they are its script's own."""
    for node in ast.walk(tree):
        names: list[str] = []
        start = folder
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = path.parents[node.level - 1] if node.level else folder
            module = [node.module] if node.module else []
            names = [".".join([*module, *rest]) for rest in ([], *([alias.name] for alias in node.names))]
        for name in filter(None, names):
            parts = name.split(".")
            yield from (start.joinpath(*parts[: i + 1]) for i in range(len(parts)))
