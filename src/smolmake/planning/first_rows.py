"""Whether the beginning of each dataset of the user's is what the recipe says: found before anything runs.

Of a dataset's first file the schema is read (Parquet, Arrow), the first line (JSONL), or 64 KiB (text).
"""

from __future__ import annotations

import codecs
from pathlib import Path

from smolmake.data.documents import needed_columns, told_of_source
from smolmake.data.readers import (
    MissingColumn,
    check_columns,
    file_format,
    open_arrow,
    open_parquet,
    read_rows,
)
from smolmake.errors import UserError
from smolmake.listing import matching_files
from smolmake.posttrain.columns import CONVERSATIONS, PAIRS, PROMPTS, told_of_section
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Files, Source
from smolmake.recipe.validate import all_files

TEXT_BYTES = 2**16
COLUMNS = {"mid_training": CONVERSATIONS, "sft": CONVERSATIONS, "apo": PAIRS, "preferences": PROMPTS}


def check_first_rows(recipe: Recipe, root: Path) -> None:
    """Raise UserError for a column that a dataset's first file lacks, or for such a file that cannot be read.

    Only for a `path`: what is generated is not written yet, and the hub's files are elsewhere.
    """
    for key, files in all_files(recipe):
        section, name = key.split(".")[0], key.split(".")[-1]
        if files.path is None or not (isinstance(files, Source) or section in COLUMNS):
            continue
        try:
            _check_first(files, needed_columns(files) if isinstance(files, Source) else COLUMNS[section], root)
        except UserError as error:
            if not isinstance(files, Source):
                raise told_of_section(error, key) from None
            if files.on_error == "stop" or isinstance(error, MissingColumn):
                raise told_of_source(error, files, name) from None


def _check_first(place: Files, columns: list[str], root: Path) -> None:
    assert place.path is not None
    for path in matching_files(place.path, root):
        kind = file_format(path, place.format)
        if kind == "parquet":
            check_columns(path, columns, open_parquet(path).schema_arrow.names)
        elif kind == "arrow":
            check_columns(path, columns, open_arrow(path)[0])
        elif not path.stat().st_size:
            continue  # an empty file has no first line
        elif kind == "jsonl":
            next(read_rows(path, "jsonl", columns), None)
        else:
            _check_text(path, columns, kind == "code")
        return


def _check_text(path: Path, columns: list[str], code: bool) -> None:
    check_columns(path, columns, ["text", "path", *(["language"] if code else [])])
    remedy = "convert it to UTF-8 or remove it; a file with rows must be named for what it is, or say `format`"
    try:
        with path.open("rb") as file:
            begin = file.read(TEXT_BYTES)
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("not a UTF-8 text file", file=path, value=error, remedy=remedy) from None
    if b"\0" in begin:
        raise UserError("a binary file, not text", file=path, value=begin[:16], remedy=remedy)
