"""Whether the beginning of each source of the user's is what the recipe says: found before anything runs.

Of a dataset's first file of each ending the schema is read (Parquet, Arrow), the first row (JSON, CSV) or 64 KiB
(text).
"""

from __future__ import annotations

import codecs
from pathlib import Path

from smolmake.data.columnar import open_arrow, open_parquet
from smolmake.data.columns import MissingColumn, check_columns, check_names
from smolmake.data.documents import needed_columns, told_of_source
from smolmake.data.readers import check_signature, check_text, open_bytes, read_rows
from smolmake.errors import UserError
from smolmake.evaluate.items import question_files
from smolmake.evaluate.questions import read_questions, ways
from smolmake.graph.specs.data import PathDataset
from smolmake.recipe.evaluation import Questions
from smolmake.recipe.formats import TEXTS, file_format, list_data
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Files, Source
from smolmake.recipe.validate import all_files

TEXT_BYTES = 2**16


def check_first_rows(recipe: Recipe, root: Path) -> None:
    """Raise UserError for a column that a dataset's first files lack, for such a file that cannot be read, for two
    files of evaluation's questions of one name, and for a row of a suite's questions that is none.

    Only for a `path`: what is generated is not written yet, and the hub's files are elsewhere.
    """
    asked = dict[str, Path]()
    for key, files in all_files(recipe):
        if files.path is not None and key == "evaluation.data":
            question_files(PathDataset(path=str(root / files.path), format=files.format, content=""), None)
        if files.path is not None and isinstance(files, Questions):
            suite = key.removeprefix("evaluation.suites.").removesuffix(".questions")
            _check_questions(files, recipe.evaluation.suites[suite].shots or 0, key, root, asked)
        if files.path is None or not isinstance(files, Source):
            continue
        try:
            _check_first(files, needed_columns(files), root)
        except UserError as error:
            if files.on_error == "stop" or isinstance(error, MissingColumn):
                raise told_of_source(error, files, key.split(".")[-1]) from None


def _check_questions(files: Questions, shots: int, key: str, root: Path, asked: dict[str, Path]) -> None:
    """Read all of a suite's questions, which are few: a wrong one would end each of its jobs.

    `asked` are the files of the suites before it, and then of this one too, by the names of their questions.
    """
    dataset = PathDataset(path=str(root / str(files.path)), format=files.format, content="")
    try:
        for name, path in question_files(dataset, None).items():
            questions = read_questions(path)
            ways(path, questions, files.ask)
            if asked.setdefault(name, path) != path:
                remedy = "rename one of them: their scores and items bear this name"
                raise UserError(
                    f"two suites' questions have the name {name}", file=path, value=asked[name], remedy=remedy
                )
            if shots >= len(questions):
                raise UserError(
                    f"{shots} examples before each question are more than the {len(questions) - 1} others",
                    file=path, key=key.removesuffix("questions") + "shots", value=shots, remedy="ask for fewer `shots`",
                )  # fmt: skip
    except UserError as error:
        error.key = error.key if error.key and error.key.endswith(".shots") else key
        raise


def _check_first(place: Files, columns: list[str], root: Path) -> None:
    assert place.path is not None
    seen = set()
    for path in list_data(place.path, place.format, root).files:
        kind = file_format(path, place.format)
        if (kind, path.suffix.lower()) in seen or not path.stat().st_size:  # an empty file has no first line
            continue
        seen.add((kind, path.suffix.lower()))
        check_signature(path, kind)
        if kind == "parquet":
            names = open_parquet(path).schema_arrow.names
        elif kind == "arrow":
            names = open_arrow(path)[0]
        elif kind in TEXTS:
            names = ["text", "path", *(["language"] if kind == "code" else [])]
            _check_text(path, place.format)
        else:
            next(read_rows(path, kind, columns), None)
            continue
        check_names(path, names)
        check_columns(path, columns, names)


def _check_text(path: Path, asked: str) -> None:
    try:
        with open_bytes(path) as file:
            begin = file.read(TEXT_BYTES)
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except (OSError, ValueError) as error:
        remedy = "convert it to UTF-8 or remove it; a file with rows must be named for what it is, or say `format`"
        raise UserError("not a UTF-8 text file", file=path, value=error, remedy=remedy) from None
    check_text(path, begin, asked)
