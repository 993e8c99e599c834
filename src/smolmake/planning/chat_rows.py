"""Whether every row of the user's conversations, pairs and prompts can be trained: found before anything runs.

All rows of what lies at a `path` are read, and rendered by the chat template. What is generated is not written yet, and
the hub's rows are elsewhere: the step that trains on them looks at them. What was found is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from smolmake.data import chat, hidden_text
from smolmake.errors import UserError
from smolmake.execution.content_hash import listing_digest
from smolmake.execution.remembered import remember, remembered
from smolmake.files import digest, file_digest
from smolmake.graph.specs.data import PathDataset
from smolmake.posttrain import messages, pieces, row_checks, rows, source_rows
from smolmake.recipe.formats import list_data
from smolmake.recipe.posttraining import Conversations, RowFiles
from smolmake.recipe.schema import Recipe

MEMORY = ".smolmake/chat_rows.json"
CODE = (chat, hidden_text, messages, pieces, row_checks, rows, source_rows)


@dataclass
class CheckedRows:
    """The rows of a dataset, and those that cannot be trained or lose what they may."""

    rows: int = 0
    skipped: int = 0
    first_skipped: str = ""
    lost: dict[str, int] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)


def check_chat_rows(recipe: Recipe, root: Path) -> dict[str, CheckedRows]:
    """By the datasets' keys; UserError for a row that stops the step that trains on it."""
    before, found = remembered(root / MEMORY), dict[str, CheckedRows]()
    answered: dict[str, Any] = {}
    for key, files, template in _datasets(recipe):
        if files.path is None:
            continue
        text = (root / "config" / "templates" / template).read_text() if template else ""
        listing = list_data(files.path, files.format, root)
        of = files.model_dump(mode="json", include={"on_error", "may_lose", "format"})
        known = digest([key.split(".")[0], listing_digest(listing, root), of, text, [_digest(code) for code in CODE]])
        answer = before.get(known)
        found[key] = CheckedRows(**answer) if isinstance(answer, dict) else _check(key, files, root, template, text)
        answered[known] = asdict(found[key])
    if answered.keys() - before.keys():
        remember(root / MEMORY, before | answered)  # other recipes' datasets stay known
    return found


def _digest(module: Any) -> str:
    return file_digest(Path(module.__file__))


def _datasets(recipe: Recipe) -> Iterator[tuple[str, RowFiles, str]]:
    """The key of each dataset, its files and the template that renders it; prompts have none."""
    last = ""
    for name in ("mid_training", "sft", "apo"):
        section = getattr(recipe, name)
        if section is not None:
            last = getattr(section, "chat_template", last)
            yield from ((f"{name}.data.{data}", files, last) for data, files in section.data.items())
    if recipe.preferences is not None:
        yield "preferences.prompts", recipe.preferences.prompts, ""


def _check(key: str, files: RowFiles, root: Path, template: str, text: str) -> CheckedRows:
    dataset = PathDataset(path=str(root / str(files.path)), format=files.format, content="")
    makers = {"apo": rows.to_pair, "preferences": rows.to_prompt}
    make: Any = makers.get(key.split(".")[0], rows.to_conversation)
    checked, losses, checks, first = CheckedRows(), pieces.Losses(), row_checks.RowChecks(), None
    for row in source_rows.source_rows(key, dataset, None, make, files.on_error):
        checked.rows += 1
        first = first or row.file
        wrong = row.wrong
        if template and row.made is not None:
            checks.look(row.number, row.made)
        try:
            for conversation in rows.conversations(row.made) if template and row.made is not None else ():
                losses.add(row.number, conversation, chat.render(text, conversation.messages, conversation.settings)[0])
        except jinja2.TemplateError as error:
            wrong = source_rows.refused_row(error, row, key, template, files.on_error)
        if wrong is not None:
            checked.skipped += 1
            checked.first_skipped = checked.first_skipped or f"row {row.number}: {wrong.what}"
    if checked.rows == checked.skipped:
        told = f", the first because {checked.first_skipped}" if checked.rows else ""
        remedy = "give rows of one of the forms of docs/how-to/conversations.md"
        raise UserError(f"none of {checked.rows} rows can be trained{told}", file=files.path, key=key, remedy=remedy)
    losses.check(files.may_lose if isinstance(files, Conversations) else [], key, first, template)
    checked.lost, checked.checks = dict(losses.rows), checks.facts()
    return checked
