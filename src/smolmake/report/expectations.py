"""Did each step do its work? What the recipe expects of its steps, against what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from smolmake.recipe.expectations import (
    CHANCE,
    CleaningExpectation,
    Expectations,
    HeldoutExpectation,
    LossExpectation,
    ScoreExpectation,
)
from smolmake.report.artifacts import ReportArtefact, metric_lines, of_kind, read_json
from smolmake.report.checkpoints import Checkpoint, HeldOut, Score
from smolmake.stats import Estimate, Interval, difference, mean_interval, newcombe, paired_difference, weighted_mean

Verdict = Literal["holds", "does not hold", "within noise", "not measured"]
Change = Literal["better", "worse", "within noise"]
Direction = Literal["up", "down", "not down", "not up"]
Unit = Literal["share", "loss", "documents"]


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


def score_change(before: Score, after: Score) -> Interval:
    """Interval of the change of a score: paired where both were measured on the same items, else Newcombe's."""
    paired = paired_difference(before.items, after.items)
    return paired or newcombe(before.value, before.n, after.value, after.n)


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
    artefact = next((a for a in of_kind(artefacts, "documents") if a.name == expected.source), None)
    cleaning = read_json(artefact, "cleaning.json") if artefact is not None else None
    if artefact is None or cleaning is None:
        return Outcome(expected.text, "not measured", "documents")
    count = cleaning["dropped"].get(expected.reason, 0)
    return Outcome(
        expected.text,
        "holds" if count >= expected.at_least else "does not hold",
        "documents",
        expected.at_least,
        count,
        files=(artefact.file("cleaning.json"),),
    )


def check_loss(expected: LossExpectation, artefacts: list[ReportArtefact]) -> Outcome:
    """The training loss of a stage: the first tenth of its steps against the last tenth."""
    trained = [a for a in of_kind(artefacts, "segment", "posttraining", "alignment") if a.stage.name == expected.stage]
    lines = sorted((m for a in trained for m in metric_lines(a)), key=lambda m: m.step)
    tenth = max(2, len(lines) // 10)
    if len(lines) < 2 * tenth:
        return Outcome(expected.text, "not measured", "loss")
    first, last = (mean_interval([m.loss for m in part]) for part in (lines[:tenth], lines[-tenth:]))
    low, high = difference(first, last)
    verdict = verdict_of(low + expected.by, high + expected.by, "down")
    files = tuple(a.file("metrics.jsonl") for a in trained)
    return Outcome(expected.text, verdict, "loss", first[0], last[0], low, high, files)


def check_heldout(expected: HeldoutExpectation, ends: dict[str, Checkpoint]) -> Outcome:
    """The loss on held-out documents at a checkpoint against another one's, or against a number."""
    other = expected.below if expected.below is not None else expected.not_above
    after = _heldout_of(expected, ends.get(expected.at))
    before = _heldout_of(expected, ends.get(other)) if isinstance(other, str) else []
    if not after or (isinstance(other, str) and not before):
        return Outcome(expected.text, "not measured", "loss")
    value, bottom, top = pooled(after)
    files: tuple[str, ...] = (ends[expected.at].file,)
    if isinstance(other, str):
        start, (low, high) = pooled(before)[0], loss_interval(before, after)
        files = (ends[other].file, *files)
    else:
        assert other is not None
        start, low, high = other, bottom - other, top - other
    verdict = verdict_of(low, high, "down" if expected.below is not None else "not up")
    return Outcome(expected.text, verdict, "loss", start, value, low, high, files)


def _heldout_of(expected: HeldoutExpectation, checkpoint: Checkpoint | None) -> list[HeldOut]:
    """What a checkpoint has of the sources that are spoken of; nothing where one of them was not measured."""
    measured = [h for h in checkpoint.heldout if h.bits_per_byte > 0] if checkpoint is not None else []
    if expected.sources:
        measured = [h for h in measured if h.source in expected.sources]
        if {h.source for h in measured} != set(expected.sources):
            return []
    return [h for h in measured if expected.domain in (None, h.domain)]


def check_score(expected: ScoreExpectation, ends: dict[str, Checkpoint]) -> Iterator[Outcome]:
    """A task's score at a checkpoint, one outcome for each of its metrics, or the mean over a suite."""
    checkpoint = ends.get(expected.at)
    scores = _scores_of(expected, checkpoint)
    groups = [scores] if expected.task is None else [[score] for score in scores]
    for group in [group for group in groups if group] or [[]]:
        text = expected.text if len(groups) < 2 else f"{expected.text} ({group[0].metric})"
        yield _check_scores(text, expected, group, ends)


def _check_scores(text: str, expected: ScoreExpectation, after: list[Score], ends: dict[str, Checkpoint]) -> Outcome:
    """The mean of some scores of one metric, mostly one score, against what it is compared with."""
    other = expected.above if expected.above is not None else expected.not_below
    if not after:
        return Outcome(text, "not measured", "share")
    value, bottom, top = mean_score(after)
    files = _files(expected, ends[expected.at])
    if isinstance(other, str) and other != CHANCE:
        keys = {score.key for score in after}
        before = [score for score in _scores_of(expected, ends.get(other)) if score.key in keys]
        if len(before) != len(after):
            return Outcome(text, "not measured", "share")
        start = mean_score(before)[0]
        one = len(after) == 1
        low, high = score_change(before[0], after[0]) if one else difference(mean_score(before), (value, bottom, top))
        files = _files(expected, ends[other]) + files
    else:
        start = sum(s.chance for s in after) / len(after) if other == CHANCE else float(other or 0.0)
        low, high = bottom - start, top - start
    verdict = verdict_of(low, high, "up" if expected.above is not None else "not down")
    return Outcome(text, verdict, "share", start, value, low, high, files)


def _scores_of(expected: ScoreExpectation, checkpoint: Checkpoint | None) -> list[Score]:
    """The scores of a checkpoint that are spoken of."""
    return [
        score
        for score in (checkpoint.scores.values() if checkpoint is not None else ())
        if score.suite == (expected.suite or "")
        and expected.task in (None, score.task)
        and expected.metric in (None, score.metric)
    ]


def _files(expected: ScoreExpectation, checkpoint: Checkpoint) -> tuple[str, ...]:
    return (checkpoint.file,) if expected.suite is None else checkpoint.suite_files


def mean_score(scores: list[Score]) -> Estimate:
    """The mean over tasks, with its interval."""
    if len(scores) == 1:
        return scores[0].value, scores[0].low, scores[0].high
    return weighted_mean([(score.value, score.low, score.high) for score in scores], [1.0] * len(scores))


def loss_interval(before: list[HeldOut], after: list[HeldOut]) -> Interval:
    """Interval of the change of the bits per byte over the sources together: paired where documents are the same."""
    documents = [[(h.source, *h.sizes) for h in side] for side in (before, after)]
    if documents[0] == documents[1] and all(h.sizes for h in before):
        first, last = ([value for h in side for value in h.nats] for side in (before, after))
        paired = paired_difference(first, last, [size * math.log(2) for h in before for size in h.sizes])
        if paired is not None:
            return paired
    return difference(pooled(before), pooled(after))


def pooled(heldout: list[HeldOut]) -> Estimate:
    """Bits per byte over several sources together: bits divided by bytes, intervals added as independent."""
    sizes = [h.loss * h.tokens / math.log(2) / h.bits_per_byte for h in heldout]
    return weighted_mean([(h.bits_per_byte, h.low, h.high) for h in heldout], sizes)
