"""The content of a user's files and scripts as part of an identity.

Files are hashed once, and again only when size or time changed.
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from smolmake.errors import UserError
from smolmake.files import digest, file_digest, matching_files, write_json

HASHES = Path(".smolmake") / "content.json"


def content_digest(pattern: str, root: Path) -> str:
    """A digest over the files that `pattern` means (see `matching_files`): their names within it and their bytes.

    A touch or a copy does not change it. Hashes are kept in .smolmake/content.json by path, size and mtime.
    """
    cache_file = root / HASHES
    known: dict[str, list[object]] = {}
    if cache_file.exists():
        try:
            loaded = json.loads(cache_file.read_text())
            known = loaded if isinstance(loaded, dict) else {}
        except ValueError:
            known = {}
    files = [file for file in matching_files(pattern, root) if "__pycache__" not in file.parts]
    base = fixed_part(root / pattern)
    hashes, changed = {}, False
    for file in files:
        status = file.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        entry = known.get(str(file.absolute()))
        if entry is None or entry[:2] != stamp:
            entry = known[str(file.absolute())] = [*stamp, file_digest(file)]
            changed = True
        hashes[file.relative_to(base).as_posix()] = entry[2]
    if changed:
        with contextlib.suppress(OSError):  # a read-only tree only loses the cache
            write_json(cache_file, known)
    return digest(hashes)


def fixed_part(path: Path) -> Path:
    """The folder that all files of a pattern lie in: the path itself, or what comes before its first wildcard."""
    if path.is_dir():
        return path
    parts = list(path.parts[:-1])
    wild = next((i for i, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    return Path(*parts[:wild])


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
