"""The sections on what each step changed: scores before and after it, and whether it did what it should."""

from itertools import pairwise

from smolmake.recipe.expectations import ScoreExpectation
from smolmake.report.blocks import Block, Cell, ReportSection, Table, two_lines, verdict
from smolmake.report.charts.bars import change_mark
from smolmake.report.checkpoints import Checkpoint, Key
from smolmake.report.expectations import Outcome, change_verdict, score_change
from smolmake.report.sections.evaluation import score_keys, title_of
from smolmake.report.sections.questions import Folders, changed_questions
from smolmake.report.text import listed, plural, signed, whole

EFFECT = ("Measure", "Before", "After", "Change, points", "95% interval", "", "Verdict")
COUNTED = {"holds": "hold", "does not hold": "do not hold", "within noise": "cannot be told from noise",
           "not measured": "were not measured"}  # fmt: skip


def post_training_steps(checkpoints: list[Checkpoint]) -> list[tuple[Checkpoint, Checkpoint]]:
    """Each post-training step as (checkpoint before, checkpoint after)."""
    ends = [c for c in checkpoints if c.ends]
    trained = [c for c in ends if c.stage.post_trains]
    base = [c for c in ends if not c.stage.post_trains][-1:]
    return list(pairwise([*base, *trained]))


def effect_section(
    checkpoints: list[Checkpoint], expected: list[ScoreExpectation], folders: Folders
) -> ReportSection | None:
    """Every score before and after each post-training step; what the recipe expects something of comes first."""
    steps, keys = post_training_steps(checkpoints), score_keys(checkpoints)
    spoken_of = {(e.suite or "", e.task) for e in expected if e.at in {after.ends for _, after in steps}}
    first = [k for k in keys if (k.suite, k.task) in spoken_of or (k.suite, None) in spoken_of] or keys
    others, files = (
        [k for k in keys if k not in first],
        [file for pair in steps for c in pair for file in c.score_files],
    )
    blocks: list[Block] = []
    for chosen, id_, folded in (first, "tab-effect", ""), (others, "tab-side", "Effect on all other tasks"):
        if rows := effect_rows(steps, chosen):
            blocks.append(Table(id_, effect_caption(rows), EFFECT, rows, files, folded=folded))
    blocks += changed_questions("txt-effect", steps, first, folders)
    lead = f"Post-training took {plural(len(steps), 'step')}: {listed([c.stage.title for _, c in steps])}."
    return ReportSection("effect", "Effect of each post-training step", lead, blocks) if blocks else None


def effect_caption(rows: list[list[Cell]], what: str = "Scores before and after each step") -> str:
    """How to read the table, and how often chance alone would give a verdict."""
    count = sum(len(row) > 1 for row in rows)
    return (
        f"{what}, with 95% intervals, shares in percent; the change in points with "
        "the interval of a bootstrap over the items, the same before and after, else of the two intervals (Newcombe's "
        "way). "
        "Better or worse only if that "
        f"interval leaves out zero: if nothing differed, about {max(1, round(0.05 * count))} of the "
        f"{count} comparisons would do so all the same."
    )


def effect_rows(steps: list[tuple[Checkpoint, Checkpoint]], keys: list[Key]) -> list[list[Cell]]:
    """For each step a heading, and a row for each score measured before and after it."""
    rows: list[list[Cell]] = []
    pairs = [(a, b, [k for k in keys if k in a.scores and k in b.scores]) for a, b in steps]
    ranges = {(b.name, k): score_change([a.scores[k]], [b.scores[k]]) for a, b, shared in pairs for k in shared}
    shares = {(b.name, k) for _, b, shared in pairs for k in shared if b.scores[k].share}
    reach = max((abs(bound) for each in shares for bound in ranges[each]), default=1.0)
    for before, after, shared in pairs:
        if shared:
            title = f"{after.stage.title}: " if after.stage.post_trains else ""
            rows.append([f"{title}{before.name} → {after.name}"])
        for key in shared:
            a, b = before.scores[key], after.scores[key]
            low, high = ranges[after.name, key]
            change, word = b.value - a.value, change_verdict(low, high, b.higher_is_better)
            scale, digits, unit = (100, 1, "%") if b.share else (1, 3, "")
            values: list[Cell] = [two_lines(score.words[0] + unit, score.words[1]) for score in (a, b)]
            values.append(signed(scale * change, digits))
            bounds = f"{signed(scale * low, digits)} to {signed(scale * high, digits)}"
            mark = change_mark(change, low, high, reach, word) if b.share else ""
            rows.append([title_of(key), *values, bounds, mark, verdict(word)])
    return rows


def expectations_section(outcomes: list[Outcome]) -> ReportSection | None:
    """What each step should have done, as the recipe says, and whether it did."""
    if not outcomes:
        return None
    counts = {words: sum(o.verdict == each for o in outcomes) for each, words in COUNTED.items()}
    said = [f"{count} {words}" for words, count in counts.items() if count]
    lead = f"The recipe has {plural(len(outcomes), 'expectation')} of what its steps should do: {listed(said)}."
    caption = (
        "What each step should have done, and whether it did. The interval is the 95% interval of the change, paired "
        "over the same items or documents where both sides have them. Where something should be kept, it holds unless "
        "it was measurably lost. Changes of a percentage are in points."
    )
    columns = ["Expectation", "Unit", "Before, or limit", "After", "Change, 95%", "Verdict"]
    files = [file for outcome in outcomes for file in outcome.files]
    table = Table("tab-expectations", caption, columns, [outcome_row(outcome) for outcome in outcomes], files, names=2)
    return ReportSection("expectations", "Did each step do its work?", lead, [table])


def outcome_row(outcome: Outcome) -> list[Cell]:
    """Losses, shares and documents each in their own unit."""
    before, after, word = outcome.before, outcome.after, verdict(outcome.verdict)
    if outcome.verdict == "not measured":
        return [outcome.text, outcome.unit, "–", "–", "–", word]
    if outcome.unit == "documents":
        return [outcome.text, outcome.unit, whole(before), whole(after), "–", word]
    scale, digits, mark = (100.0, 1, "%") if outcome.unit == "percent" else (1.0, 3, "")
    values = [f"{scale * value:.{digits}f}{mark}" for value in (before, after)]
    bounds = f"{signed(scale * outcome.low, digits)} to {signed(scale * outcome.high, digits)}"
    return [outcome.text, outcome.unit, *values, bounds, word]
