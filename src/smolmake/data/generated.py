"""Data that a program of the user's writes, kept only when the program has ended well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smolmake.data.readers import FILES, count_rows, generated_files
from smolmake.errors import UserError
from smolmake.files import publish_folder

TAIL, WIDTH = 12, 150  # of what the program printed, in an error


def run_generator(script: Path, arguments: Mapping[str, Any], folder: Path, expected: list[str]) -> dict[str, int]:
    """Run `script` and move what it wrote to `files` in `folder`; returns the rows of each file.

    `expected` holds what the recipe reads of it: files, folders or globs.

    Raises:
        UserError: if it fails, or has not written one of them.
    """
    for left in (*folder.glob("unfinished-*"), folder / FILES):  # of a run that was killed: a program starts afresh
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=folder) as scratch:
        files, work = Path(scratch) / FILES, Path(scratch) / "work"
        files.mkdir()
        work.mkdir()
        command = [sys.executable, str(script.absolute()), "--output", str(files.absolute()), *options(arguments)]
        _run(command, work, script)
        try:
            for pattern in expected:
                generated_files(pattern, files, "text")
            rows = {name: count_rows(files / name) for name in generated_files("", files, "text").names}
        except UserError as error:
            file = error.file or script
            raise UserError(error.what, file=file, key=error.key, value=error.value, remedy=error.remedy) from None
        publish_folder(files, folder / FILES)
    return rows


def options(arguments: Mapping[str, Any]) -> list[str]:
    """The recipe's `arguments` as a command line has them."""
    words: list[str] = []
    for key, value in arguments.items():
        if value is not False:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [f"--{key}", *map(str, values)]
    return words


def _run(command: list[str], work: Path, script: Path) -> None:
    """Run the program, print what it prints, and raise UserError with the last of it if it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
    last: deque[str] = deque(maxlen=TAIL)
    with subprocess.Popen(
        command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=sys.stderr)
            last.append(line.rstrip()[:WIDTH])
    if process.returncode:
        code = process.returncode
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        printed = "\n".join([", and printed last:", *(f"    {line}" for line in last)]) if last else ""
        raise UserError(
            f"the script failed with {how}{printed}", file=script,
            remedy=f"try it by hand: python {script} --output FOLDER {' '.join(command[4:])}".rstrip(),
        )  # fmt: skip
