"""Files written whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form, as hexadecimal text."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_stamp(status: os.stat_result) -> list[int]:
    """What differs after a file was written to, even if its size and the time that it shows were set back."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def matching_files(pattern: str, root: Path) -> list[Path]:
    """The files that a `path` of the recipe means: a file, all files under a folder but hidden ones, or a glob."""
    place = root / pattern
    if place.is_dir():
        return sorted(file for file in place.rglob("*") if file.is_file() and not _hidden(file.relative_to(place)))
    if place.is_file():
        return [place]
    relative = place.relative_to(place.anchor)
    return sorted(file for file in Path(place.anchor).glob(str(relative)) if file.is_file())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def write_atomically(path: Path, text: str) -> None:
    """Write a file beside its place, flush it to disk and rename it: readers see the old or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically, keys sorted."""
    write_atomically(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Flush every file of a folder, and the folder, to disk."""
    for path in [*sorted(folder.rglob("*")), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
