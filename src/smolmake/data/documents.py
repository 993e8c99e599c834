"""From the rows of a dataset to documents: columns or templates to text, filters by value and by score."""

from __future__ import annotations

import operator
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolmake.data.columns import MissingColumn, Row, Trouble
from smolmake.data.readers import read_rows
from smolmake.errors import UserError, did_you_mean
from smolmake.recipe.sources import Rows

HINTS = {
    "text": "Name the column that holds the text in the recipe: `text: COLUMN`.",
    "template": "A template can only name columns that the data has.",
    "where": "Rows can only be chosen by columns that the data has.",
}


@dataclass(frozen=True)
class Document:
    """A text, and why it is dropped before its text is looked at, if it is."""

    text: str
    reason: str | None = None


def template_fields(template: str) -> list[str]:
    """The columns that a template names; the recipe's schema has checked that it holds nothing else in braces."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def read_documents(
    files: list[Path], file_format: str, rows: Rows, source: str, trouble: Trouble | None, base: Path | None = None
) -> Iterator[Document]:
    """The documents of a source's files, which lie in the folder `base`."""
    for file in files:
        for row in _rows_of(file, file_format, rows, source, trouble, base):
            yield to_document(row, rows, source, file, skip=trouble is not None)


def _rows_of(
    file: Path, file_format: str, rows: Rows, source: str, trouble: Trouble | None, base: Path | None
) -> Iterator[Row]:
    try:
        yield from read_rows(file, file_format, needed_columns(rows), trouble, base)
    except UserError as error:
        raise told_of_source(error, rows, source) from None


def told_of_source(error: UserError, rows: Rows, source: str) -> UserError:
    """What is wrong with a source's file, with the recipe's key and a remedy that the recipe has."""
    error.key = f"sources.{source}"
    if not isinstance(error, MissingColumn):
        error.remedy += ", or set `on_error: skip` to pass over what is damaged"
        return error
    if error.column in _text_columns(rows):
        role = "template" if rows.template else "text"
    else:
        role = next(key for key, columns in _filters(rows).items() if error.column in columns)
    error.key += f".{role}"
    error.remedy = f"{did_you_mean(error.column, error.present)} {HINTS.get(role, HINTS['where'])}"
    return error


def needed_columns(rows: Rows) -> list[str]:
    """The columns that a source's text and filters need."""
    filtered = [column for columns in _filters(rows).values() for column in columns]
    return list(dict.fromkeys([*_text_columns(rows), *filtered]))


def _text_columns(rows: Rows) -> list[str]:
    return template_fields(rows.template) if rows.template else [rows.text]


def _filters(rows: Rows) -> dict[str, Iterable[str]]:
    """The columns that rows are chosen by, under the recipe's keys."""
    return {"where": rows.where, "at_least": rows.at_least, "at_most": rows.at_most}


def to_document(row: Row, rows: Rows, source: str, place: Any, skip: bool) -> Document:
    """One row as a document.

    Raises:
        UserError: if a column holds something else than it should; with `skip` it is a document to be dropped.
    """
    try:
        text = _rendered(rows.template, row, rows) if rows.template else _as_text(row[rows.text], rows.text, rows)
        return Document(text, _filtered(row, rows))
    except _WrongType as error:
        if skip:
            return Document("", "wrong_type")
        error.file, error.key = place, f"sources.{source}"
        raise


class _WrongType(UserError):
    def __init__(self, what: str, value: Any) -> None:
        remedy = "name a column of the right type, or set `on_error: skip` to pass over such rows"
        super().__init__(what, value=repr(value), remedy=remedy)


def _rendered(template: str, row: Row, rows: Rows) -> str:
    parts = string.Formatter().parse(template)
    return "".join(text + ("" if name is None else _as_text(row[name], name, rows)) for text, name, _, _ in parts)


def _as_text(value: Any, column: str, rows: Rows) -> str:
    """A column's value as text: a text itself, or a dialogue whose turns the source's `turn` renders."""
    if isinstance(value, str):
        return value
    if not (isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value)):
        raise _WrongType(f"the column `{column}` holds something else than text or a dialogue", value)
    for turn in value:
        for name in template_fields(rows.turn):
            if not isinstance(turn.get(name), str):
                raise _WrongType(f"a turn in the column `{column}` has no text `{name}`", turn)
    return "".join(_rendered(rows.turn, turn, rows) for turn in value)


def _filtered(row: Row, rows: Rows) -> str | None:
    for column, values in rows.where.items():
        if not _is_one_of(row[column], values):
            return f"other_{column}"
    for word, bounds, good in (("low", rows.at_least, operator.ge), ("high", rows.at_most, operator.le)):
        for column, bound in bounds.items():
            if not good(_as_number(row[column], column), bound):
                return f"{word}_{column}"
    return None


def _is_one_of(value: Any, values: list[bool | int | float | str]) -> bool:
    """Whether a value is one of the recipe's or, as in CSV, the text of one that is no text itself."""
    if value in values or not isinstance(value, str):
        return value in values
    return value.lower() in {str(other).lower() for other in values if not isinstance(other, str)}


def _as_number(value: Any, column: str) -> float:
    try:
        return float(value) if isinstance(value, int | float | str) else float("")
    except ValueError:
        raise _WrongType(f"the column `{column}` holds something else than a number", value) from None
