"""Work on a step in parts: each is done once, by whichever process takes it, and kept when others fail.

A part is a folder `parts/00007` of the step's folder with files and, written last, `part.json`: sizes and hashes of the
files, and facts. The processes that work on a step share nothing but the folder: each takes parts by a lock on one byte
of a file, which the system frees when its holder ends, however it ends. So ten nodes may work on a source of 10,000
files, and after a crash only the part that was under way is redone. No job of Snakemake is needed for each part.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smolmake.files import file_digest, file_stamp, lock_file, write_json

PART_FILE = "part.json"
Work = Callable[[int, Path], dict[str, Any]]
Valid = Callable[[dict[str, Any]], bool]


def part_folder(folder: Path, number: int) -> Path:
    """Where part `number` of a step lies."""
    return folder / "parts" / f"{number:05d}"


def do_parts(folder: Path, count: int, work: Work, *, helper: bool, first: int = 0, valid: Valid | None = None) -> None:
    """Do the parts 0 .. count - 1 of a step that are not done yet.

    `work(number, folder)` writes a part's files into its empty folder and returns its facts. A helper passes over
    parts that others work on, begins at part `first` and returns when there is no more to take. Who is not a helper
    waits for the others, does again what they failed to do, and returns when all parts are done.
    """
    (folder / "parts").mkdir(exist_ok=True)
    for number in [(first + i) % count for i in range(count)]:
        _do_part(folder, number, work, valid, wait=False)
    if not helper:
        for number in range(count):
            _do_part(folder, number, work, valid, wait=True)


def _do_part(folder: Path, number: int, work: Work, valid: Valid | None, wait: bool) -> None:
    if part_record(folder, number, valid) is not None:
        return
    with lock_file(folder / "parts" / ".lock", wait, byte=number) as taken:
        if not taken or part_record(folder, number, valid) is not None:
            return
        part = part_folder(folder, number)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        facts = work(number, part)
        written = {file.relative_to(part).as_posix(): file for file in sorted(part.rglob("*")) if file.is_file()}
        stamps = {name: file_stamp(file.stat()) for name, file in written.items()}
        files = {name: {"bytes": stamps[name][0], "sha256": file_digest(file)} for name, file in written.items()}
        write_json(part / PART_FILE, {"files": files, "stamps": stamps, "facts": facts})


def part_record(folder: Path, number: int, valid: Valid | None = None) -> dict[str, Any] | None:
    """What part.json says; None if the part is not done, or its files have not the sizes that it says."""
    part = part_folder(folder, number)
    try:
        record: dict[str, Any] = json.loads((part / PART_FILE).read_text())
        whole = all((part / name).stat().st_size == file["bytes"] for name, file in record["files"].items())
        return record if whole and (valid is None or valid(record)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def part_payload(folder: Path, count: int) -> tuple[dict[str, dict[str, Any]], dict[str, list[int]]]:
    """Size and hash of all files of all parts, and their stamps then, by their path under the step's folder."""
    payload: dict[str, dict[str, Any]] = {}
    stamps: dict[str, list[int]] = {}
    for number in range(count):
        record = part_record(folder, number)
        assert record is not None, f"part {number} of {folder} is not done"
        payload |= {f"parts/{number:05d}/{name}": file for name, file in record["files"].items()}
        stamps |= {f"parts/{number:05d}/{name}": stamp for name, stamp in record["stamps"].items()}
    return payload, stamps


@contextmanager
def helpers(count: int, job: str) -> Iterator[None]:
    """Run this program `count` times more, as helpers on the same job, while the block runs.

    A helper that fails is no loss: what it left undone is done by the block's own process, which then tells the error.
    """
    command = [sys.executable, sys.argv[0], job, "--helper"]
    processes = [subprocess.Popen([*command, str(number + 1), str(count + 1)]) for number in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
