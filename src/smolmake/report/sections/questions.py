"""Which questions two checkpoints answer differently, with their texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from smolmake.evaluate.answers import ANSWERS, Answers, read_answers
from smolmake.report.artifacts import ReportArtefact
from smolmake.report.blocks import Details, Item
from smolmake.report.checkpoints import Checkpoint, Key, Score
from smolmake.report.sections.evaluation import title_of
from smolmake.report.text import whole
from smolmake.stats import sign_test

SHOWN = 3  # questions of a score that were gained, and as many that were lost
Folders = dict[str, Path]  # the folder that has a scores.json, by that file's name in the report
Row = dict[str, Any]


@dataclass(frozen=True)
class ChangedQuestions:
    """The numbers of a score's items that the later of two checkpoints answers better (`gained`) or worse (`lost`)."""

    gained: list[int]
    lost: list[int]

    @property
    def p(self) -> float:
        """How often chance alone would divide as many changes as unevenly."""
        return sign_test(len(self.gained), len(self.lost))

    @property
    def words(self) -> str:
        p = f"p = {self.p:.2g}" if self.p >= 0.001 else "p < 0.001"
        return f"{whole(len(self.gained))} gained, {whole(len(self.lost))} lost, {p}"


def changed_items(before: Score, after: Score) -> ChangedQuestions | None:
    """None where there is nothing to pair, as for a score that is no mean over items."""
    if not before.items or len(before.items) != len(after.items):
        return None
    change = [b - a for a, b in zip(before.items, after.items, strict=True)]
    return ChangedQuestions([n for n, c in enumerate(change) if c > 0], [n for n, c in enumerate(change) if c < 0])


def answers_to(score: Score, kept: Answers) -> list[Row]:
    """What was asked and answered for each item of a score; nothing where it was not kept."""
    by_filter = kept.get((score.task, score.length), {})
    rows = by_filter.get(score.filter) or next(iter(by_filter.values()), [])
    return rows if len(rows) == len(score.items) else []


def question_texts(
    changed: ChangedQuestions, before: tuple[str, list[Row]], after: tuple[str, list[Row]], most: int
) -> list[Item]:
    """Up to `most` of the gained and of the lost questions: each with its target and both answers.

    `before` and `after` are the checkpoints' names with what `answers_to` gives.
    """
    items = []
    for what, numbers in (("gained", changed.gained), ("lost", changed.lost)):
        for number in numbers[:most]:
            asked = before[1][number]
            texts = [f"target: {asked['target']}"]
            texts += [f"{name}: {' | '.join(rows[number]['answers'])}" for name, rows in (before, after)]
            items.append(Item(f"{what}, item {asked['item']}", "\n".join(texts), asked["question"]))
    return items


def same_questions(first: list[Row], second: list[Row]) -> bool:
    return bool(first) and [row["question"] for row in first] == [row["question"] for row in second]


def score_folders(artefacts: list[ReportArtefact]) -> Folders:
    return {a.file("scores.json"): a.path for a in artefacts if a.kind in ("evaluation", "suite")}


def changed_questions(
    id_: str, pairs: list[tuple[Checkpoint, Checkpoint]], keys: list[Key], folders: Folders
) -> list[Details]:
    """A listing of the questions that changed between each two checkpoints, a few of each score."""
    groups, files = list[tuple[str, list[Item]]](), dict[str, None]()
    kept = cache(lambda file: read_answers(folders[file] / ANSWERS))
    for before, after in pairs:
        for key in keys:
            a, b = before.scores.get(key), after.scores.get(key)
            changed = changed_items(a, b) if a is not None and b is not None else None
            if a is None or b is None or changed is None or not (changed.gained or changed.lost):
                continue
            first, second = (answers_to(score, kept(score.file)) for score in (a, b))
            if same_questions(first, second):
                shown = question_texts(changed, (before.name, first), (after.name, second), SHOWN)
                groups.append((f"{before.name} → {after.name}, {title_of(key)}: {changed.words}", shown))
                files |= dict.fromkeys(score.file.replace("scores.json", ANSWERS) for score in (a, b))
    caption = (
        f"Questions that the second checkpoint answers better or worse than the first, up to {SHOWN} of each; p is of "
        "the exact sign test, which for right and wrong is McNemar's. Where the model chooses, its answer is the "
        "likeliest choice."
    )
    return [Details(id_, caption, groups, list(files))] if groups else []
