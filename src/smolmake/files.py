"""Files and folders written whole or not at all, their hashes, locks on them, and lines of JSON."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

SETTLED = 10**8  # nanoseconds after a change from which on no other one can have left the same times


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
    """What differs after a file was written to or replaced, even if its size and the time that it shows are as before.

    Size in bytes, mtime and ctime in nanoseconds, inode.
    """
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def is_settled(stamp: list[int], since: int) -> bool:
    """Whether any change of the file `since` a moment (nanoseconds of the epoch) has given it another stamp.

    Two changes within a tick of the clock give the same.
    """
    return since - stamp[2] > SETTLED


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A place beside a file to write to: flushed to disk and renamed at the block's end, removed if the block fails.

    Readers see the old file or the new one, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        _sync(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside another, empty, to fill: flushed to disk and renamed at the block's end, also over an old one.

    What a block that failed or was killed has left is removed. One process at a time may write to a place.
    """
    beside = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        publish_folder(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def publish_folder(beside: Path, path: Path) -> None:
    """Flush a folder and all in it to disk, and rename it, over an old folder if there is one."""
    for each in [*sorted(beside.rglob("*")), beside]:
        _sync(each)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(beside, path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with new_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically, keys sorted."""
    write_atomically(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def json_lines(path: Path, last: int | None = None) -> Iterator[dict[str, Any]]:
    """The JSON objects, one a line, of the last so many bytes of a file, or of all, but for lines that were cut.

    A kill, a full disk or the writer at this moment cuts a line. A file that is not there has none.
    """
    try:
        with path.open("rb") as file:
            start = 0 if last is None else max(0, file.seek(0, os.SEEK_END) - last)
            file.seek(start)
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines[1 if start else 0 :]:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


@contextmanager
def lock_file(path: Path, wait: bool = True, byte: int | None = None) -> Iterator[bool]:
    """Hold the lock on a file, or on one byte of it, while the block runs; gives whether it is held.

    It is not if another process has it and this one does not `wait`. The system frees the lock of a process that ends.
    """
    with path.open("a") as file:
        yield take_lock(file, wait, byte)


def take_lock(file: IO[Any], wait: bool, byte: int | None = None) -> bool:
    """Take the lock on an open file, or on one byte of it; False if another process has it and `wait` is not set."""
    operation = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    try:
        if byte is None:
            fcntl.flock(file, operation)
        else:
            fcntl.lockf(file, operation, 1, byte)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock on a file: asked by a shared lock, which is given back at once."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
