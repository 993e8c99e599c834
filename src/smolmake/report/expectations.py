"""Did each step do its work? Intervals for a difference, and the claims of a run with their verdicts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from smolmake.report.artifacts import (
    Checkpoint,
    HeldOut,
    MetricLine,
    Score,
    is_extension,
    is_pretraining,
    stage_name,
)
from smolmake.stats import Estimate, Interval, difference, mean_interval, newcombe, paired_difference, weighted_mean

Verdict = Literal["holds", "does not hold", "within noise"]
Change = Literal["better", "worse", "within noise"]


@dataclass(frozen=True)
class Claim:
    """What a step should have done: before and after it, and the 95% interval of after − before."""

    text: str
    before: float
    after: float
    low: float
    high: float
    verdict: Verdict
    unit: Literal["share", "loss"] = "share"
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


def claim_verdict(low: float, high: float, expected: Literal["up", "down", "kept"]) -> Verdict:
    """Whether a change goes where it should; `kept` holds as long as nothing was measurably lost."""
    change = change_verdict(low, high, higher_is_better=expected != "down")
    if change == "within noise":
        return "holds" if expected == "kept" else "within noise"
    if change == "better":
        return "holds"
    return "does not hold"


def score_claim(
    text: str, before: Checkpoint, after: Checkpoint, key: tuple[str, str], expected: Literal["up", "kept"]
) -> Claim | None:
    """A claim about one score of two checkpoints, or None if one of them lacks it."""
    if key not in before.scores or key not in after.scores:
        return None
    a, b = before.scores[key], after.scores[key]
    low, high = score_change(a, b)
    return Claim(text, a.value, b.value, low, high, claim_verdict(low, high, expected), files=(before.file, after.file))


def loss_falls(stage: str, lines: list[MetricLine], files: tuple[str, ...]) -> Claim | None:
    """The training loss of a stage: the first tenth of its steps against the last tenth."""
    tenth = max(2, len(lines) // 10)
    if len(lines) < 2 * tenth:
        return None
    first, last = (mean_interval([m.loss for m in part]) for part in (lines[:tenth], lines[-tenth:]))
    low, high = difference(first, last)
    return Claim(
        f"The training loss falls in {stage_name(stage)}",
        first[0],
        last[0],
        low,
        high,
        claim_verdict(low, high, "down"),
        "loss",
        files,
    )


def heldout_falls(stage: str, before: Checkpoint, after: Checkpoint) -> Claim | None:
    """The loss on all held-out documents at the end of the stage before and of this one."""
    measured = [[h for h in c.heldout if h.bits_per_byte > 0] for c in (before, after)]
    if not all(measured):
        return None
    a, b = pooled(measured[0])[0], pooled(measured[1])[0]
    low, high = loss_interval(*measured)
    text = f"The held-out loss falls in {stage_name(stage)} (bits per byte, all sources)"
    verdict = claim_verdict(low, high, "down")
    return Claim(text, a, b, low, high, verdict, "loss", (before.file, after.file))


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


def raised_domain(
    domain: str,
    shares: Interval,
    stage: str,
    before: Checkpoint,
    after: Checkpoint,
    mixtures: tuple[str, ...],
) -> Claim | None:
    """A domain given more weight by a stage: its held-out loss at the end of the stage before and of it."""
    measured = [[h for h in c.heldout if h.domain == domain and h.bits_per_byte > 0] for c in (before, after)]
    if not all(measured):
        return None
    a, b = pooled(measured[0])[0], pooled(measured[1])[0]
    low, high = loss_interval(*measured)
    text = (
        f"{stage_name(stage).capitalize()} raises {domain} from {shares[0]:.0%} to {shares[1]:.0%}, "
        f"and the loss on {domain} falls (bits per byte)"
    )
    return Claim(
        text,
        a,
        b,
        low,
        high,
        claim_verdict(low, high, "down"),
        "loss",
        (*mixtures, before.file, after.file),
    )


def above_chance(score: Score, checkpoint: Checkpoint) -> Claim:
    """A score against guessing; the interval is that of the score, less chance."""
    low, high = score.low - score.chance, score.high - score.chance
    return Claim(
        f"{score.task.replace('_', ' ').capitalize()} above chance after {stage_name(checkpoint.group)}",
        score.chance,
        score.value,
        low,
        high,
        claim_verdict(low, high, "up"),
        files=(checkpoint.file,),
    )


def last_of(checkpoints: list[Checkpoint], belongs: Callable[[str], bool]) -> Checkpoint | None:
    """The last checkpoint whose stage fits."""
    return next((c for c in reversed(checkpoints) if belongs(c.group)), None)


def domain_claims(checkpoints: list[Checkpoint], mixtures: dict[str, tuple[dict[str, float], str]]) -> list[Claim]:
    """A claim for each domain whose weight a stage raises; `mixtures`: by stage, shares and their file."""
    stages = [g for g in mixtures if is_pretraining(g)]
    claims = []
    for earlier, later in pairwise(stages):
        before, after = last_of(checkpoints, earlier.__eq__), last_of(checkpoints, later.__eq__)
        (old, old_file), (new, new_file) = mixtures[earlier], mixtures[later]
        for domain in sorted(new):
            shares = (old.get(domain, 0.0), new[domain])
            if before and after and shares[1] - shares[0] >= 0.01:
                claims.append(raised_domain(domain, shares, later, before, after, (old_file, new_file)))
    return [c for c in claims if c]


def score_claims(checkpoints: list[Checkpoint]) -> list[Claim]:
    """What extension, SFT, APO and merging should have done to the scores."""
    base = last_of(checkpoints, is_pretraining)
    extended = last_of(checkpoints, is_extension)
    mid, sft, apo, merged = (last_of(checkpoints, wanted.__eq__) for wanted in ("mid", "sft", "apo", "merge"))
    claims: list[Claim | None] = []
    for task in ("facts", "arithmetic"):
        claims += [above_chance(s, base) for s in base.scores.values() if s.task == task] if base else []
    pairs: list[tuple[Checkpoint | None, Checkpoint | None, str, str, str, Literal["up", "kept"]]] = [
        (base, extended, "needle_long", "", "The long needle is found more often after the extension", "up"),
        (mid or extended or base, sft, "chat", "format", "SFT teaches the chat format", "up"),
        (
            sft,
            apo,
            "preferences",
            "",
            "APO raises the share of pairs in which the chosen answer is preferred",
            "up",
        ),
        (apo, merged, "chat", "format", "Merging keeps the chat format", "kept"),
        (apo, merged, "chat", "answer", "Merging keeps the answers", "kept"),
        (apo, merged, "preferences", "", "Merging keeps the preference", "kept"),
        (apo, merged, "needle_long", "", "Merging keeps the long needle", "kept"),
    ]
    for before, after, task, metric, sentence, expected in pairs:
        if before and after:
            keys = [k for k in after.scores if k[0] == task and metric in ("", k[1])]
            claims += [score_claim(sentence, before, after, key, expected) for key in keys]
    return [c for c in claims if c]
