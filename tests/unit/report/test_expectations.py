"""Verdicts on numbers made by hand."""

import pytest

from smolmake.report.artifacts import Checkpoint, HeldOut, MetricLine, Score
from smolmake.report.expectations import (
    above_chance,
    change_verdict,
    claim_verdict,
    domain_claims,
    loss_falls,
    pooled,
    score_claims,
)
from smolmake.report.text import compact, duration, listed, signed
from smolmake.stats import wilson


def score(task: str, value: float, n: int = 200, metric: str = "acc", chance: float = 0.0) -> Score:
    return Score(task, metric, value, *wilson(value * n, n), n, chance, "FG")


def checkpoint(group: str, *scores: Score, heldout: list[HeldOut] | None = None) -> Checkpoint:
    return Checkpoint(group, group, group, 0, 0, {s.key: s for s in scores}, heldout or [], f"evaluation/{group}/s")


def test_verdicts() -> None:
    assert [change_verdict(*b) for b in ((0.01, 0.2), (-0.2, -0.01), (-0.1, 0.1))] == [
        "better",
        "worse",
        "within noise",
    ]
    assert change_verdict(-0.2, -0.1, higher_is_better=False) == "better"
    assert claim_verdict(-0.2, -0.1, "down") == "holds"
    assert claim_verdict(-0.2, -0.1, "up") == claim_verdict(-0.2, -0.1, "kept") == "does not hold"
    assert claim_verdict(-0.2, 0.1, "kept") == "holds" and claim_verdict(-0.2, 0.1, "up") == "within noise"


def test_above_chance() -> None:
    base = checkpoint("stage3")
    assert above_chance(score("facts", 0.5, chance=0.25), base).verdict == "holds"
    assert above_chance(score("facts", 0.26, chance=0.25), base).verdict == "within noise"
    assert above_chance(score("facts", 0.1, chance=0.25), base).verdict == "does not hold"


def test_claims_about_scores() -> None:
    run = [
        checkpoint("stage3", score("facts", 0.5, chance=0.25), score("needle_long", 0.1)),
        checkpoint("lc2", score("needle_long", 0.7)),
        checkpoint("mid", score("chat", 0.5, metric="format")),
        checkpoint("sft", score("chat", 0.3, metric="format"), score("preferences", 0.5)),
        checkpoint("apo", score("chat", 0.6, metric="format"), score("preferences", 0.52)),
        checkpoint("merge", score("chat", 0.58, metric="format"), score("preferences", 0.2)),
    ]
    verdicts = {c.text: c.verdict for c in score_claims(run)}
    assert verdicts == {
        "Facts above chance after stage 3": "holds",
        "The long needle is found more often after the extension": "holds",
        "SFT teaches the chat format": "does not hold",
        "APO raises the share of pairs in which the chosen answer is preferred": "within noise",
        "Merging keeps the chat format": "holds",
        "Merging keeps the preference": "does not hold",
    }


def test_claims_about_domains() -> None:
    def heldout(code: float, web: float) -> list[HeldOut]:
        return [
            HeldOut("python", "code", 100, code, code, code - 0.05, code + 0.05),
            HeldOut("english", "web", 100, web, web, web - 0.05, web + 0.05),
        ]

    run = [checkpoint("stage1", heldout=heldout(2.0, 2.0)), checkpoint("stage2", heldout=heldout(1.5, 2.2))]
    shares = {"stage1": ({"code": 0.2, "web": 0.8}, "m1"), "stage2": ({"code": 0.4, "web": 0.6}, "m2")}
    (claim,) = domain_claims(run, shares)
    assert claim.verdict == "holds" and "code from 20% to 40%" in claim.text
    assert claim.files == ("m1", "m2", "evaluation/stage1/s", "evaluation/stage2/s")
    (claim,) = domain_claims(run, {"stage1": ({"web": 0.5}, "m1"), "stage2": ({"web": 0.7}, "m2")})
    assert claim.verdict == "does not hold"


def test_pooled_bits_per_byte_weighs_by_bytes() -> None:
    one = HeldOut("a", "d", 100, 0.6931471805599453, 1.0, 0.9, 1.1)  # 100 bits over 100 bytes
    two = HeldOut("b", "d", 100, 3 * 0.6931471805599453, 1.0, 0.9, 1.1)  # 300 bits over 300 bytes
    value, _, high = pooled([one, two])
    assert value == pytest.approx(1.0) and high - value == pytest.approx(0.1 * (0.25**2 + 0.75**2) ** 0.5)


def test_loss_of_a_stage() -> None:
    def lines(slope: float) -> list[MetricLine]:
        return [MetricLine(s, s, 4 + slope * s + 0.05 * (-1) ** s, None, None) for s in range(100)]

    verdicts = [claim.verdict for slope in (-0.01, 0.01, 0.0) if (claim := loss_falls("stage1", lines(slope), ()))]
    assert verdicts == ["holds", "does not hold", "within noise"]
    assert loss_falls("stage1", lines(0)[:3], ()) is None


def test_numbers_in_words() -> None:
    assert [compact(v) for v in (0, 0.25, 999, 999_900, 1_843_200, 3.08e9, 11.2e12)] == [
        "0",
        "0.25",
        "999",
        "1M",
        "1.84M",
        "3.08B",
        "11.2T",
    ]
    assert [duration(v) for v in (0.4, 42, 59.7, 192, 19200, 1_050_000)] == [
        "0.4 s",
        "42 s",
        "1 min",
        "3 min 12 s",
        "5 h 20 min",
        "12 d 3 h",
    ]
    assert [signed(v, 1) for v in (0.04, 1.26, -3)] == ["0.0", "+1.3", "−3.0"]
    assert listed([]) == "" and listed(["a", "b", "c"]) == "a, b and c"
