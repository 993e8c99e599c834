"""Did each step do its work? What the recipe expects of its steps, against what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from smolmake.recipe.expectations import (
    CHANCE,
    CleaningExpectation,
    Expectations,
    HeldoutExpectation,
    LossExpectation,
    ScoreExpectation,
)
from smolmake.report.artifacts import ReportArtefact, load, of_kind
from smolmake.report.checkpoints import Checkpoint, HeldOut, Score
from smolmake.stats import Estimate, Interval, difference, mean_interval, paired_difference, weighted_mean

Verdict = Literal["holds", "does not hold", "within noise", "not measured"]
Change = Literal["better", "worse", "within noise"]
Direction = Literal["up", "down", "not down", "not up"]
Unit = Literal["percent", "score", "training loss", "bits per byte", "documents"]
M = TypeVar("M", HeldOut, Score)


@dataclass(frozen=True)
class Outcome:
    """What became of an expectation: before (or the limit) and after, and the 95 % interval of the change."""

    text: str
    verdict: Verdict
    unit: Unit
    before: float = math.nan
    after: float = math.nan
    low: float = math.nan
    high: float = math.nan
    files: tuple[str, ...] = ()


def change_verdict(low: float, high: float, higher_is_better: bool = True) -> Change:
    """Better or worse only if the interval of the change leaves out zero."""
    if low > 0 or high < 0:
        return "better" if (low > 0) == higher_is_better else "worse"
    return "within noise"


def verdict_of(low: float, high: float, expected: Direction) -> Verdict:
    """Whether a change goes where it should; "not down" holds unless something was measurably lost."""
    change = change_verdict(low, high, higher_is_better=expected in ("up", "not down"))
    if change == "within noise":
        return "within noise" if expected in ("up", "down") else "holds"
    return "holds" if change == "better" else "does not hold"


def check_all(
    expectations: Expectations, artefacts: list[ReportArtefact], checkpoints: list[Checkpoint]
) -> list[Outcome]:
    """Every expectation with what became of it, in the order of the recipe's keys."""
    ends = {c.ends: c for c in checkpoints if c.ends}
    outcomes = [check_cleaning(each, artefacts) for each in expectations.cleaning.values()]
    outcomes += [check_loss(each, artefacts) for each in expectations.losses.values()]
    outcomes += [check_heldout(each, ends) for each in expectations.heldout.values()]
    return outcomes + [outcome for each in expectations.scores.values() for outcome in check_score(each, ends)]


def check_cleaning(expected: CleaningExpectation, artefacts: list[ReportArtefact]) -> Outcome:
    """Documents of a source that were dropped for a reason."""
    for artefact, cleaning, file in load(artefacts, "documents", "cleaning.json"):
        if artefact.name == expected.source:
            count = cleaning["dropped"].get(expected.reason, 0)
            verdict: Verdict = "holds" if count >= expected.at_least else "does not hold"
            return Outcome(expected.text, verdict, "documents", expected.at_least, count, files=(file,))
    return Outcome(expected.text, "not measured", "documents")


def check_loss(expected: LossExpectation, artefacts: list[ReportArtefact]) -> Outcome:
    """The training loss of a stage: the first tenth of its steps against the last tenth, at least four where there are
    as many: two tell little of their spread."""
    trained = [a for a in of_kind(artefacts, "segment", "posttraining", "alignment") if a.stage.name == expected.stage]
    lines = sorted((m for a in trained for m in a.metrics), key=lambda m: m.step)
    tenth = max(min(4, len(lines) // 2), len(lines) // 10)
    if tenth < 2:
        return Outcome(expected.text, "not measured", "training loss")
    first, last = (mean_interval([m.loss for m in part]) for part in (lines[:tenth], lines[-tenth:]))
    low, high = difference(first, last)
    verdict = verdict_of(low + expected.by, high + expected.by, "down")
    files = tuple(a.file("metrics.jsonl") for a in trained)
    return Outcome(expected.text, verdict, "training loss", first[0], last[0], low, high, files)


def compare(
    text: str,
    unit: Unit,
    before: list[M] | float,
    after: list[M],
    mean: Callable[[list[M]], Estimate],
    change: Callable[[list[M], list[M]], Interval],
    direction: Direction,
    files: Sequence[str],
) -> Outcome:
    """Measures against earlier ones of the same things, or against a number; without measures there is no verdict."""
    if not after or before == []:
        return Outcome(text, "not measured", unit)
    value, bottom, top = mean(after)
    if isinstance(before, list):
        start, (low, high) = mean(before)[0], change(before, after)
    else:
        start, low, high = before, bottom - before, top - before
    return Outcome(text, verdict_of(low, high, direction), unit, start, value, low, high, tuple(files))


def check_heldout(expected: HeldoutExpectation, ends: dict[str, Checkpoint]) -> Outcome:
    """The loss on held-out documents at a checkpoint against another one's, or against a number."""
    other = expected.below if expected.below is not None else expected.not_above
    before = other if isinstance(other, float) else _heldout_of(expected, ends.get(other or ""))
    after = _heldout_of(expected, ends.get(expected.at))
    direction: Direction = "down" if expected.below is not None else "not up"
    files = [ends[end].file for end in (other, expected.at) if end in ends]
    return compare(expected.text, "bits per byte", before, after, pooled, loss_change, direction, files)


def _heldout_of(expected: HeldoutExpectation, checkpoint: Checkpoint | None) -> list[HeldOut]:
    """What a checkpoint has of the sources that are spoken of; nothing where one of them was not measured."""
    measured = [h for h in checkpoint.heldout if h.bits_per_byte > 0] if checkpoint is not None else []
    if expected.sources:
        measured = [h for h in measured if h.source in expected.sources]
        if {h.source for h in measured} != set(expected.sources):
            return []
    return [h for h in measured if expected.domain in (None, h.domain)]


def check_score(expected: ScoreExpectation, ends: dict[str, Checkpoint]) -> Iterator[Outcome]:
    """A task's score at a checkpoint, one outcome for each of its metrics and filters, or the mean over a suite."""
    scores = _scores_of(expected, ends.get(expected.at))
    if expected.task is None:
        filters = sorted({score.filter for score in scores})
        if len({score.task for score in scores}) == len(scores):
            yield _check_scores(expected.text, expected, scores, ends)
        else:
            yield Outcome(f"{expected.text} (name a filter: {', '.join(filters)})", "not measured", "percent")
        return
    several = len({score.filter for score in scores}) > 1
    for score in scores:
        metric = f"{score.metric}, {score.filter}" if several else score.metric
        yield _check_scores(
            expected.text if len(scores) < 2 else f"{expected.text} ({metric})", expected, [score], ends
        )
    if not scores:
        yield _check_scores(expected.text, expected, [], ends)


def _check_scores(text: str, expected: ScoreExpectation, after: list[Score], ends: dict[str, Checkpoint]) -> Outcome:
    """The mean of some scores of one metric, mostly one score, against what it is compared with."""
    other = expected.above if expected.above is not None else expected.not_below
    before: list[Score] | float
    if isinstance(other, float):
        before = other
    elif other == CHANCE:
        before = sum(score.chance for score in after) / max(len(after), 1)
    else:
        keys = {score.key for score in after}
        before = [score for score in _scores_of(expected, ends.get(other or "")) if score.key in keys]
        before = before if len(before) == len(after) else []
    direction: Direction = "up" if expected.above is not None else "not down"
    files = [file for end in (other, expected.at) if end in ends for file in _files(expected, ends[end])]
    unit: Unit = "percent" if all(score.share for score in after) else "score"
    return compare(text, unit, before, after, mean_score, score_change, direction, files)


def _scores_of(expected: ScoreExpectation, checkpoint: Checkpoint | None) -> list[Score]:
    """The scores of a checkpoint that are spoken of; a mean over a suite leaves its groups out, whose tasks it has."""
    return [
        score
        for score in (checkpoint.scores.values() if checkpoint is not None else ())
        if score.suite == (expected.suite or "")
        and (expected.task == score.task or (expected.task is None and not score.tasks))
        and (expected.metric == score.metric or (expected.metric is None and not score.beside))
        and expected.filter in (None, score.filter)
    ]


def _files(expected: ScoreExpectation, checkpoint: Checkpoint) -> tuple[str, ...]:
    return (checkpoint.file,) if expected.suite is None else checkpoint.suite_files


def mean_score(scores: list[Score]) -> Estimate:
    """The mean over tasks, with its interval."""
    if len(scores) == 1:
        return scores[0].value, scores[0].low, scores[0].high
    return weighted_mean([(score.value, score.low, score.high) for score in scores], [1.0] * len(scores))


def score_change(before: list[Score], after: list[Score]) -> Interval:
    """Interval of the change of a score, or of the mean of several; of one, paired where its items are the same."""
    paired = None
    if len(after) == 1:
        paired = paired_difference(before[0].items, after[0].items, clusters=after[0].clusters)
    return paired or difference(mean_score(before), mean_score(after))


def loss_change(before: list[HeldOut], after: list[HeldOut]) -> Interval:
    """Interval of the change of the bits per byte over the sources together: paired where documents are the same."""
    if [(h.source, h.sizes) for h in before] == [(h.source, h.sizes) for h in after] and all(h.sizes for h in before):
        first, last = ([value for h in side for value in h.nats] for side in (before, after))
        paired = paired_difference(first, last, [size * math.log(2) for h in before for size in h.sizes])
        if paired is not None:
            return paired
    return difference(pooled(before), pooled(after))


def pooled(heldout: list[HeldOut]) -> Estimate:
    """Bits per byte over several sources together: bits divided by bytes, intervals added as independent."""
    sizes = [h.loss * h.tokens / math.log(2) / h.bits_per_byte for h in heldout]
    return weighted_mean([(h.bits_per_byte, h.low, h.high) for h in heldout], sizes)
