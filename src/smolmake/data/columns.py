"""The columns of a file of rows: all that are needed, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from smolmake.errors import UserError, did_you_mean

Row = dict[str, Any]
Trouble = Callable[[UserError], None]


class MissingColumn(UserError):
    """A column that a file lacks. Who knows what it was wanted for names the recipe's key, and the remedy."""

    def __init__(self, column: str, present: Iterable[str], *, file: Any, place: str = "this file") -> None:
        self.column, self.present = column, list(present)
        remedy = did_you_mean(column, self.present)
        super().__init__(f"the column `{column}` is not in {place}", file=file, value=column, remedy=remedy)


def check_columns(path: Path, columns: list[str] | None, present: list[str], place: str = "this file") -> None:
    """Raise MissingColumn unless all `columns` are present."""
    for column in columns or []:
        if column not in present:
            raise MissingColumn(column, present, file=path, place=place)


def check_names(path: Path, names: list[str]) -> None:
    """Raise UserError if two columns have one name: only one of them could be read."""
    if len(set(names)) < len(names):
        raise UserError(
            f"two columns have the name `{twice(names)}`", file=path, value=", ".join(names),
            remedy="rename one of them, or take it out",
        )  # fmt: skip


def twice(names: list[str]) -> str:
    return Counter(names).most_common(1)[0][0]
