"""Compare two checkpoints or models question by question, of one recipe or of two.

    smolmake compare stage1 sft                        two of the toy's checkpoints, each score
    smolmake compare base sft --recipe mine --task facts     and the questions of a task that changed, with both answers
    smolmake compare toy/sft other/sft                 of the last reports of two recipes

A checkpoint is named as in the recipe (stage1, sft, merged, or a model of `evaluation.models`), or as its evaluation
(stage1-0-150). Scores are those of results/latest/RECIPE/scores.parquet, which the report writes. Of scores over the
same items the interval of the change is paired, and p is of the exact sign test over the items that changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from smolmake.errors import UserError, did_you_mean
from smolmake.evaluate.answers import ANSWERS, read_answers
from smolmake.report.artifacts import pick
from smolmake.report.checkpoints import Key, Score
from smolmake.report.expectations import change_verdict, score_change
from smolmake.report.score_table import SCORES, read_scores
from smolmake.report.sections.evaluation import title_of
from smolmake.report.sections.questions import answers_to, changed_items, question_texts, same_questions
from smolmake.report.text import signed

RESULTS = Path("results")
COLUMNS = ("Score", "First", "Second", "Change", "95% interval", "", "Questions")
Scores = dict[Key, Score]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="FIRST", help="a checkpoint, or RECIPE/CHECKPOINT")
    parser.add_argument("second", metavar="SECOND", help="another one")
    parser.add_argument("--recipe", default="toy", help="the recipe of checkpoints that name none (default: toy)")
    parser.add_argument("--suite", help="only the scores of one suite")
    parser.add_argument("--task", help="only one task, with the questions that changed")
    parser.add_argument("--metric", help="only one metric")
    parser.add_argument("--questions", type=int, metavar="N", default=5, help="of each kind at most (default: 5)")


def run(arguments: argparse.Namespace) -> None:
    names = (arguments.first, arguments.second)
    first, second = (scores_of(name, arguments.recipe) for name in names)
    shared = [key for key in first if key in second and _asked_for(key, arguments)]
    if not shared:
        tasks = sorted({key.task for key in first} & {key.task for key in second})
        raise UserError(
            "the two have no such score in common", value=" and ".join(names),
            remedy=f"tasks that both have: {', '.join(tasks) or 'none'}",
        )  # fmt: skip
    print_table([COLUMNS, *(_row(first[key], second[key]) for key in shared)])
    for key in shared if arguments.task else ():
        if first[key].beside and arguments.metric is None:
            continue
        print("\n".join(["", *_changed(names, first[key], second[key], arguments.questions)]))


def _asked_for(key: Key, arguments: argparse.Namespace) -> bool:
    wanted = ((arguments.suite, key.suite), (arguments.task, key.task), (arguments.metric, key.metric))
    return all(word is None or word == value for word, value in wanted)


def scores_of(name: str, recipe: str) -> Scores:
    """The scores of a checkpoint in the table that its recipe's last report wrote."""
    recipe, _, checkpoint = name.rpartition("/") if "/" in name else (recipe, "", name)
    place = RESULTS / "latest" / recipe / SCORES
    rows = read_scores(place).to_pylist()
    found = [row for row in rows if checkpoint in (row["ends"], row["checkpoint"])]
    if not found:
        known = sorted({row["ends"] or row["checkpoint"] for row in rows})
        raise UserError(
            "the table of scores has no such checkpoint", file=place, value=checkpoint,
            remedy=did_you_mean(checkpoint, known),
        )  # fmt: skip
    scores = [pick(Score, row) for row in found]
    return {score.key: score for score in scores}


def _row(before: Score, after: Score) -> tuple[str, ...]:
    low, high = score_change([before], [after])
    scale, digits, unit = (100, 1, "%") if after.share else (1, 3, "")
    change, changed = after.value - before.value, changed_items(before, after)
    return (
        title_of(after.key),
        *(score.words[0] + unit for score in (before, after)),
        signed(scale * change, digits),
        f"{signed(scale * low, digits)} to {signed(scale * high, digits)}",
        change_verdict(low, high, after.higher_is_better),
        changed.words if changed is not None else "not the same items",
    )


def print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _changed(names: tuple[str, str], before: Score, after: Score, most: int) -> Iterator[str]:
    """The questions of a score that changed, as lines."""
    yield f"{title_of(after.key)}:"
    changed = changed_items(before, after)
    asked = [answers_to(score, read_answers((RESULTS / score.file).with_name(ANSWERS))) for score in (before, after)]
    if changed is None or not all(asked):
        yield "  the answers to single questions were not kept, or this score is no mean over them"
    elif not same_questions(*asked):
        yield "  the two were asked other questions"
    else:
        for item in question_texts(changed, (names[0], asked[0]), (names[1], asked[1]), most):
            yield f"  {item.label}"
            yield from (f"    {line}" for line in [*item.prompt.splitlines(), *item.text.splitlines()])
