"""The rows of post-training's datasets, each brought into one form, with file and number for what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import jinja2

from smolmake.data.columns import MissingColumn, Row
from smolmake.data.hub import hub_rows
from smolmake.data.readers import data_files, read_rows
from smolmake.errors import UserError
from smolmake.graph.specs.data import DatasetSpec, HubDataset
from smolmake.graph.specs.posttrain import OnError
from smolmake.posttrain.columns import told_of_section
from smolmake.posttrain.messages import bad_row
from smolmake.recipe.formats import file_format

Made = TypeVar("Made")


@dataclass
class SourceRow(Generic[Made]):
    """What was made of a row of a file: the thing, or what is wrong with it."""

    file: str | Path
    number: int
    made: Made | None
    wrong: UserError | None = None


def source_rows(
    key: str,
    dataset: DatasetSpec,
    generated: Path | None,
    make: Callable[[Row, bool], Made],
    on_error: OnError,
) -> Iterator[SourceRow[Made]]:
    """All rows of a dataset as `make` makes them. With `on_error` stop, the first row that is wrong ends them.

    Raises:
        UserError: with the dataset's `key` in the recipe; a column that is lacking is never passed over.
    """
    found: Iterator[tuple[str | Path, bool, Iterator[dict[str, Any]]]]
    if isinstance(dataset, HubDataset):
        found = iter([(dataset.hub, True, hub_rows(dataset, key))])
    else:
        asked = dataset.format
        files = data_files(dataset, generated)
        found = ((file, file_format(file, asked) in ("parquet", "arrow"), read_rows(file, asked)) for file in files)
    try:
        for file, unified, rows in found:
            for number, row in enumerate(rows, 1):
                yield _made(SourceRow(file, number, None), row, unified, make, on_error)
    except UserError as error:
        raise told_of_section(error, key) from None


def _made(
    place: SourceRow[Made], row: Row, unified: bool, make: Callable[[Row, bool], Made], on_error: OnError
) -> SourceRow[Made]:
    try:
        place.made = make(row, unified)
    except MissingColumn as error:
        raise MissingColumn(error.column, error.present, file=place.file, place=f"row {place.number}") from None
    except UserError as error:
        if on_error == "stop":
            raise told_of_row(error, place.file, place.number) from None
        place.wrong = error
    return place


def refused_row(
    error: UserError | jinja2.TemplateError, row: SourceRow[Any], key: str, template: str, on_error: OnError
) -> UserError:
    """What is wrong with a row that cannot be rendered or encoded: raised if rows that are wrong stop the step."""
    if not isinstance(error, UserError):
        error = bad_row(f"the chat template {template} refuses it: {error}", None)
    if on_error == "stop":
        told = told_of_row(error, row.file, row.number)
        told.key = key
        raise told from None
    return error


def told_of_row(error: UserError, file: str | Path, number: int) -> UserError:
    """What is wrong with a row, with its place."""
    remedy = f"{error.remedy}; or `on_error: skip` for this dataset: such rows are counted and left out"
    return UserError(f"row {number}: {error.what}", file=file, value=error.value, remedy=remedy)
