"""A user's own questions: rows of `question`, `answer` and, where there is a choice, `choices`, all of them checked."""

from __future__ import annotations

import json
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from smolmake.data.columns import MissingColumn
from smolmake.data.readers import open_bytes
from smolmake.errors import UserError
from smolmake.evaluate.items import question_files, question_rows
from smolmake.graph.specs.data import FileDataset
from smolmake.recipe.evaluation import Formulation
from smolmake.recipe.formats import file_format

LETTERS = string.ascii_uppercase
COLUMNS = "a row has `question`, `answer` and, where there is a choice, `choices`"
CHOOSING = ("cf", "mcf", "hybrid")


@dataclass(frozen=True)
class Question:
    """A question with its choices and the number of the right one, or with the answers that are right."""

    text: str
    choices: tuple[str, ...]
    gold: int
    answers: tuple[str, ...]

    @property
    def item(self) -> str:
        """What the sources are searched for."""
        return " ".join((self.text, *(self.choices or self.answers)))

    def asked(self, how: Formulation, prompt: str) -> dict[str, Any]:
        """As a row of one of the harness's tasks: `query` with `options` and `gold`, or with `answers`."""
        lines = "".join(f" {LETTERS[n]}. {choice}\n" for n, choice in enumerate(self.choices))
        filling = {"{question}": self.text, "{choices}": lines if how in ("mcf", "hybrid") else ""}
        query = re.sub(r"\{question\}|\{choices\}", lambda found: filling[found[0]], prompt)
        if how == "fg":
            return {"query": query, "answers": list(self.answers)}
        options = list(LETTERS[: len(self.choices)]) if how == "mcf" else list(self.choices)
        return {"query": query, "options": options, "gold": self.gold}


def read_questions(path: Path) -> list[Question]:
    """The questions of a file.

    Raises:
        UserError: for a row that is no question, with its line.
    """
    try:
        rows = question_rows(path)
    except UserError as error:
        error.key = "evaluation.suites.*.questions"
        raise
    questions: list[Question] = []
    for number, row in enumerate(rows, 1):
        try:
            question = _question(row, path)
            if questions and bool(question.choices) != bool(questions[0].choices):
                _refuse("some questions have choices and others have none", row, "put them into two files")
        except UserError as error:
            error.key, error.file = "evaluation.suites.*.questions", path
            error.line = _line(path, number)
            error.what += "" if error.line else f" (row {number})"
            raise
        questions.append(question)
    return questions


def question_items(dataset: FileDataset, generated: Path | None) -> dict[str, list[str]]:
    """What the sources are searched for, by the names of the files."""
    files = question_files(dataset, generated)
    return {name: [question.item for question in read_questions(path)] for name, path in files.items()}


def ways(path: Path, questions: list[Question], ask: list[Formulation]) -> list[Formulation]:
    """How the questions of a file are asked.

    Raises:
        UserError: if a choice is to be made where there is none.
    """
    has_choices = bool(questions[0].choices)
    wrong = [how for how in ask if how in CHOOSING and not has_choices]
    if wrong:
        raise UserError(
            "questions without choices can only be asked for a written answer",
            file=path, key="evaluation.suites.*.questions.ask", value=", ".join(wrong),
            remedy="add the column `choices`, or write `ask: [fg]`",
        )  # fmt: skip
    return list(dict.fromkeys(ask)) or ["cf" if has_choices else "fg"]


def _question(row: dict[str, Any], path: Path) -> Question:
    for column in ("question", "answer"):
        if column not in row:
            raise MissingColumn(column, row, file=path, place="this row")
    text = row["question"]
    if not isinstance(text, str) or not text.strip():
        _refuse("the question is no text", text, "write the question as a text")
    choices = _choices(row.get("choices"))
    answer = row["answer"]
    if not choices:
        answers = tuple(answer) if isinstance(answer, list) else (answer,)
        answers = tuple(str(each) if type(each) in (int, float) else each for each in answers)
        if not answers or not all(isinstance(each, str) and each.strip() for each in answers):
            _refuse("the answer is no text", answer, "write it as a text, or a list of texts of which each is right")
        return Question(text, (), -1, answers)
    gold = _number(answer, choices)
    return Question(text, choices, gold, (choices[gold],))


def _number(answer: Any, choices: tuple[str, ...]) -> int:
    """The number of the right choice, told by its text, its number or its letter."""
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    numbers = {word: n for n, letter in enumerate(LETTERS[: len(choices)]) for word in (str(n), letter)}
    if type(answer) in (str, int) and str(answer) in numbers:
        return numbers[str(answer)]
    near = f"one of {', '.join(choices)}" if len(choices) <= 6 else f"one of its {len(choices)} choices"
    _refuse("the answer is none of the choices", answer, f"write {near}, its number counted from 0, or its letter")


def _choices(value: Any) -> tuple[str, ...]:
    """Choices as a list, or, as CSV has them, as a text that holds a list in JSON."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            _refuse("the choices are no list", value, 'write them as a list in JSON, such as ["red", "blue"]')
    if value in (None, "", []):
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
        _refuse("the choices are no list of texts", value, 'write them such as ["red", "blue"]')
    if len(set(value)) < len(value) or not 2 <= len(value) <= len(LETTERS):
        _refuse("the choices are not different from each other, or too few or many", value, f"give 2 to {len(LETTERS)}")
    return tuple(value)


def _refuse(what: str, value: Any, remedy: str) -> NoReturn:
    raise UserError(what, value=value, remedy=f"{remedy}; {COLUMNS}")


def _line(path: Path, number: int) -> int | None:
    """The line of a row where a row is a line."""
    if file_format(path) != "jsonl":
        return None
    with open_bytes(path) as lines:
        filled = (line for line, content in enumerate(lines, 1) if content.strip())
        return next(line for row, line in enumerate(filled, 1) if row == number)
