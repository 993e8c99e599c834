"""The content of a user's files as part of an identity: hashed once, and again only when size or time changed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from smolmake.files import digest, file_digest, matching_files, write_json

CACHE = Path(".smolmake") / "content.json"


def content_digest(pattern: str, root: Path) -> str:
    """A digest over the files that `pattern` means (see `matching_files`): their names within it and their bytes.

    A touch or a copy does not change it. Hashes are kept in .smolmake/content.json by path, size and mtime.
    """
    cache_file = root / CACHE
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
