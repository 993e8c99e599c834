"""Which scores are worth reading, by their own history over the checkpoints of pretraining."""

from smolmake.evaluate.worth import ERRORS, FEWEST, ORDER, RATIO, RISE, Advice, ScoreHistory, advise
from smolmake.report.blocks import Table
from smolmake.report.checkpoints import Checkpoint, Key, own_checkpoints
from smolmake.report.text import percent

WIDTH = 2 * 1.96  # standard errors of a 95% interval


def score_history(key: Key, checkpoints: list[Checkpoint]) -> ScoreHistory | None:
    """A score over the checkpoints of pretraining, beside the models that the run is compared with."""
    scored = [c for c in own_checkpoints(checkpoints) if key in c.scores and not c.stage.post_trains]
    if not scored:
        return None
    last = scored[-1].scores[key]
    return ScoreHistory(
        values=[c.scores[key].value for c in scored],
        error=(last.high - last.low) / WIDTH,
        chance=last.chance,
        higher_is_better=last.higher_is_better,
        others=[c.scores[key].value for c in checkpoints if c.compared and key in c.scores],
    )


def worth_table(checkpoints: list[Checkpoint], named: dict[Key, str]) -> list[Table]:
    """A row for each score with checkpoints enough, `named` as the report names it."""
    rows = []
    for key, name in named.items():
        history = score_history(key, checkpoints)
        advice = advise(history) if history is not None else None
        if advice is not None:
            rows.append([name, *_told(advice), "read" if advice.read else "do not read: " + ", ".join(advice.reasons)])
    if not rows:
        return []
    caption = (
        f"Which scores to read at this size, of those with {FEWEST} checkpoints of pretraining or more. Signal: the "
        "largest difference of scores over their mean, between models where the run is compared with others, else "
        "over the run. Noise: the standard deviation of the last five checkpoints over their mean. Steadiness: "
        "Spearman's correlation of score and step, positive where the score improves. Above chance: in standard "
        f"errors. A score is read where it is {ERRORS:.0f} standard errors above chance, its signal {RATIO:.0f} times "
        f"its noise and its steadiness {RISE} or more, and where {percent(ORDER, 0)} of pairs of models keep their "
        "order at another budget, as far as that is known."
    )
    columns = ["Score", "Signal", "Noise", "Signal to noise", "Steadiness", "Above chance", "Advice"]
    files = list(dict.fromkeys(file for c in checkpoints for file in c.score_files))
    return [Table("tab-worth", caption, columns, rows, files)]


def _told(advice: Advice) -> list[str]:
    shares = [percent(each) if each is not None else "–" for each in (advice.signal, advice.noise)]
    ratio = "–" if advice.ratio is None else f"{advice.ratio:.1f}"
    above = "–" if advice.above_chance is None else f"{advice.above_chance:.1f}"
    return [*shares, ratio, f"{advice.monotonicity:.2f}", above]
