"""The section on what a model is compared with: other models that were measured, and published numbers."""

from __future__ import annotations

from collections.abc import Iterator

from smolmake.recipe.comparison import Published, PublishedScore
from smolmake.report.blocks import Block, Cell, ReportSection, Table, two_lines, verdict
from smolmake.report.checkpoints import Checkpoint, Score, own_checkpoints
from smolmake.report.sections.effects import EFFECT, effect_caption, effect_rows
from smolmake.report.sections.evaluation import score_keys, title_of
from smolmake.report.sections.questions import Folders, changed_questions
from smolmake.report.text import listed, signed

Pair = tuple[Checkpoint, Checkpoint]


def comparison_section(
    checkpoints: list[Checkpoint], published: dict[str, Published], folders: Folders
) -> ReportSection | None:
    """Other models against the recipe's last checkpoint, or against the first of them; then published numbers."""
    blocks, pairs = list[Block](), compared_pairs(checkpoints)
    keys = score_keys([c for pair in pairs for c in pair])
    if rows := effect_rows(pairs, keys):
        files = [file for pair in pairs for c in pair for file in c.score_files]
        caption = effect_caption(rows, "Scores of two models each")
        blocks.append(Table("tab-models", caption, ["Measure", "First", "Second", *EFFECT[3:]], rows, files))
        blocks += changed_questions("txt-models", pairs, keys, folders)
    blocks += published_table(checkpoints, published)
    others = [c.name for c in checkpoints if c.compared]
    told = [f"{listed(others)} measured on the same questions"] if others else []
    told += ["numbers that others have published"] if published else []
    return ReportSection("comparison", "Beside other models", f"{' and '.join(told)}.", blocks) if blocks else None


def compared_pairs(checkpoints: list[Checkpoint]) -> list[Pair]:
    """Each other model before the recipe's last checkpoint; where it has none of its own, the first one before each."""
    scored = [c for c in checkpoints if c.scores]
    own, others = own_checkpoints(scored), [c for c in scored if c.compared]
    return [(other, own[-1]) for other in others] if own else [(others[0], other) for other in others[1:]]


def published_table(checkpoints: list[Checkpoint], published: dict[str, Published]) -> list[Table]:
    """Each published number beside what was measured of it."""
    ends, files = {c.ends: c for c in checkpoints if c.ends}, dict[str, None]()
    rows: list[list[Cell]] = []
    for name, column in published.items():
        rows.append([f"{name}, of {column.at}: {column.source}"])
        checkpoint = ends.get(column.at)
        files |= dict.fromkeys(checkpoint.score_files if checkpoint is not None else ())
        for asked in column.scores:
            scores = list(_scores_of(asked, checkpoint))
            rows += [_published_row(score, asked, column.percent) for score in scores] or [_unmeasured(asked)]
    caption = (
        "Published numbers beside what was measured, shares in percent, with the 95% interval of the measured score. "
        "What lies outside of it was asked otherwise, or of another model; what lies within may have been, too."
    )
    columns = ["Measure", "Published", "Measured", "Difference", "Published lies"]
    return [Table("tab-published", caption, columns, rows, list(files))] if files else []


def _scores_of(asked: PublishedScore, checkpoint: Checkpoint | None) -> Iterator[Score]:
    for score in checkpoint.scores.values() if checkpoint is not None else ():
        named = (score.suite, score.task, score.metric) == (asked.suite or "", asked.task, asked.metric)
        if named and asked.filter in (None, score.filter):
            yield score


def _published_row(score: Score, asked: PublishedScore, percent: bool) -> list[Cell]:
    value = asked.value / 100 if score.share and percent else asked.value
    scale, digits, unit = (100, 1, "%") if score.share else (1, 3, "")
    where = "above" if value > score.high else "below" if value < score.low else "within"
    measured = two_lines(score.words[0] + unit, score.words[1])
    change = signed(scale * (score.value - value), digits)
    return [title_of(score.key), f"{scale * value:.{digits}f}{unit}", measured, change, f"{where} the interval"]


def _unmeasured(asked: PublishedScore) -> list[Cell]:
    named = ", ".join(filter(None, (asked.task, asked.metric, asked.filter, asked.suite)))
    return [named, f"{asked.value:g}", "–", "–", verdict("not measured")]
