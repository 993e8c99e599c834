"""Mistakes of a user, told on one screen: what is wrong, where, and how to mend it."""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import reprlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

INTERRUPTED = 130  # the shell's exit code after SIGINT
CANNOT_WRITE = "cannot write"
STORAGE_ERRORS = (errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EDQUOT)


class UserError(Exception):
    """A mistake that the user can mend. Shown without a stack trace, with a non-zero exit."""

    def __init__(self, what: str, *, file: Any = None, key: str | None = None, value: Any = None, remedy: str) -> None:
        super().__init__(what)
        self.what, self.file, self.key, self.value, self.remedy = what, file, key, value, remedy
        self.line: int | None = None  # of the file

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        rows = [("file", place), ("key", self.key), ("value", self.value), ("remedy", self.remedy)]
        lines = [f"  {label:<8}{_short(content)}" for label, content in rows if content is not None]
        return "\n".join([_short(self.what), *lines])


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """A remedy, as a whole sentence, that names the nearest valid word, or all of them."""
    by_form = {word.casefold(): word for word in valid}
    near = difflib.get_close_matches(word.casefold(), by_form, n=1, cutoff=0.5)
    if near:
        return f"did you mean `{by_form[near[0]]}`?"
    return f"use one of: {', '.join(by_form.values())}."


def run_as_program(main: Callable[[], None]) -> None:
    """Run a script's `main`; a mistake or a full disk ends it with one screen and exit code 1, Ctrl-C with 130."""
    try:
        main()
    except UserError as error:
        end_told(f"error: {error}")
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        reason = storage_trouble(error)
        if reason is None:
            raise
        told = UserError(
            f"{CANNOT_WRITE}: {reason}",
            file=getattr(error, "filename", None),
            remedy="free space or give write permission there, then run the same command again: "
            "finished steps are kept and a training goes on from its last checkpoint",
        )
        end_told(f"error: {told}")


def end_told(message: str) -> NoReturn:
    """End with a message: on stderr or, for one of torchrun's processes, in the file from which torchrun tells it."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file is None:
        sys.exit(message)
    try:
        with open(file, "w") as told:  # noqa: PTH123 (torchrun's own form)
            json.dump({"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}, told)
    except OSError:
        sys.exit(message)
    sys.exit(1)


def storage_trouble(error: BaseException) -> str | None:
    """What is wrong with the storage, if that is what the error says; safetensors and torch tell it in words only."""
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        return error.strerror
    if isinstance(error, OSError) and re.search(r"\d+ requested and \d+ written", str(error)):  # numpy's words for it
        return os.strerror(errno.ENOSPC)
    found = [os.strerror(number) for number in STORAGE_ERRORS if os.strerror(number) in str(error)]
    return found[0] if found else None


def _short(content: Any) -> str:
    whole = reprlib.repr(content) if isinstance(content, dict | list) else str(content)
    text = " ".join(whole.split())
    return text if len(text) <= 400 else text[:400] + " ..."
