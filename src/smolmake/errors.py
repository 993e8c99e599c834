"""Mistakes of a user, told on one screen: what is wrong, where, and how to mend it."""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

STORAGE_ERRORS = (errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EDQUOT)


class UserError(Exception):
    """A mistake that the user can mend. Shown without a stack trace, with a non-zero exit."""

    def __init__(self, what: str, *, file: Any = None, key: str | None = None, value: Any = None, remedy: str) -> None:
        super().__init__(what)
        self.what, self.file, self.key, self.value, self.remedy = what, file, key, value, remedy

    def __str__(self) -> str:
        rows = [("file", self.file), ("key", self.key), ("value", self.value), ("remedy", self.remedy)]
        lines = [f"  {label:<8}{_short(content)}" for label, content in rows if content is not None]
        return "\n".join([self.what, *lines])


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """A remedy that names the nearest valid word, or all of them."""
    valid = list(valid)
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    if near:
        return f"did you mean `{near[0]}`?"
    return "use one of: " + ", ".join(valid)


def run_as_program(main: Callable[[], None]) -> None:
    """Run a script's `main`; a user's mistake or a full disk ends it with one screen and exit code 1 or 2."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        reason = storage_trouble(error)
        if reason is None:
            raise
        told = UserError(
            f"cannot write: {reason}",
            file=getattr(error, "filename", None),
            remedy="free space or give write permission there, then run the same command again: "
            "finished steps are kept and a training goes on from its last checkpoint",
        )
        sys.exit(f"error: {told}")


def storage_trouble(error: BaseException) -> str | None:
    """What is wrong with the storage, if that is what the error says; safetensors and torch tell it in words only."""
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        return error.strerror
    if isinstance(error, OSError) and re.search(r"\d+ requested and \d+ written", str(error)):  # numpy's words for it
        return os.strerror(errno.ENOSPC)
    found = [os.strerror(number) for number in STORAGE_ERRORS if os.strerror(number) in str(error)]
    return found[0] if found else None


def _short(content: Any) -> str:
    text = " ".join(str(content).split())
    return text if len(text) <= 400 else text[:400] + " ..."
