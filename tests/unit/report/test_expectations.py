"""Verdicts on numbers made by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolmake.graph.stages import GraphStage, StageSection
from smolmake.recipe.expectations import Expectations
from smolmake.report.artifacts import ReportArtefact
from smolmake.report.checkpoints import Checkpoint, HeldOut, Score
from smolmake.report.expectations import Outcome, change_verdict, check_all, pooled, verdict_of
from smolmake.report.sections.effects import expectations_section
from smolmake.report.text import compact, duration, listed, signed
from smolmake.stats import wilson

SECTIONS: dict[str, StageSection] = {"mid": "mid_training", "sft": "sft", "apo": "apo", "merged": "merge"}


def score(task: str, value: float, n: int = 200, metric: str = "acc", chance: float = 0.0, suite: str = "") -> Score:
    return Score(task, metric, value, *wilson(value * n, n), n, chance, "FG", suite=suite)


def checkpoint(name: str, *scores: Score, heldout: list[HeldOut] | None = None) -> Checkpoint:
    stage = GraphStage(name, SECTIONS.get(name, "pretraining"), name, name)
    by_key, files = {s.key: s for s in scores}, tuple(f"suite/{name}" for _ in scores[:1])
    return Checkpoint(name, name, stage, 0, by_key, heldout or [], f"evaluation/{name}", files)


def outcomes(
    checkpoints: list[Checkpoint], artefacts: list[ReportArtefact] | None = None, **expected: Any
) -> list[Outcome]:
    named = {
        section: {text.lower().replace(" ", "-"): {"text": text} | values for text, values in entries.items()}
        for section, entries in expected.items()
    }
    return check_all(Expectations.model_validate(named), artefacts or [], checkpoints)


def verdicts(*arguments: Any, **expected: Any) -> dict[str, str]:
    return {outcome.text: outcome.verdict for outcome in outcomes(*arguments, **expected)}


def test_verdicts() -> None:
    assert [change_verdict(*b) for b in ((0.01, 0.2), (-0.2, -0.01), (-0.1, 0.1))] == [
        "better",
        "worse",
        "within noise",
    ]
    assert change_verdict(-0.2, -0.1, higher_is_better=False) == "better"
    assert verdict_of(-0.2, -0.1, "down") == verdict_of(-0.2, -0.1, "not up") == "holds"
    assert verdict_of(-0.2, -0.1, "up") == verdict_of(-0.2, -0.1, "not down") == "does not hold"
    assert verdict_of(-0.2, 0.1, "not down") == verdict_of(-0.2, 0.1, "not up") == "holds"
    assert verdict_of(-0.2, 0.1, "up") == verdict_of(-0.2, 0.1, "down") == "within noise"


@pytest.mark.parametrize("value, verdict", [(0.5, "holds"), (0.26, "within noise"), (0.1, "does not hold")])
def test_a_score_against_chance_or_a_number(value: float, verdict: str) -> None:
    run = [checkpoint("main", score("facts", value, chance=0.25))]
    expected = {"at": "main", "task": "facts"}
    found = outcomes(run, scores={"a": expected | {"above": "chance"}, "b": expected | {"above": 0.25}})
    assert [(o.verdict, o.before, o.after) for o in found] == [(verdict, 0.25, value)] * 2
    assert found[0].files == ("evaluation/main",)


def test_scores_of_two_checkpoints() -> None:
    run = [
        checkpoint("main", score("needle", 0.1)),
        checkpoint("longer", score("needle", 0.7)),
        checkpoint("sft", score("chat", 0.3, metric="format"), score("pairs", 0.5)),
        checkpoint("apo", score("chat", 0.6, metric="format"), score("pairs", 0.52)),
        checkpoint("merged", score("chat", 0.58, metric="format"), score("pairs", 0.2)),
    ]
    assert verdicts(
        run,
        scores={
            "extension": {"at": "longer", "task": "needle", "above": "main"},
            "format lost": {"at": "sft", "task": "chat", "metric": "format", "above": "apo"},
            "apo": {"at": "apo", "task": "pairs", "above": "sft"},
            "kept": {"at": "merged", "task": "chat", "metric": "format", "not_below": "apo"},
            "pairs lost": {"at": "merged", "task": "pairs", "not_below": "apo"},
        }
        | {
            name: {"at": at, "task": task, "metric": metric, "above": "sft"}
            for name, at, task, metric in (
                ("no such metric", "apo", "chat", "answer"),
                ("not at sft", "longer", "needle", "acc"),
                ("no such checkpoint", "mid", "chat", "format"),
            )
        },
    ) == {
        "extension": "holds",
        "format lost": "does not hold",
        "apo": "within noise",
        "kept": "holds",
        "pairs lost": "does not hold",
        "no such metric": "not measured",
        "not at sft": "not measured",
        "no such checkpoint": "not measured",
    }


def test_each_metric_of_a_task_is_told_and_a_suite_by_its_mean() -> None:
    chat = [score("chat", value, metric=metric) for metric, value in (("format", 0.9), ("answer", 0.1))]
    expected = {"at": "sft", "task": "chat", "above": 0.5}
    assert verdicts([checkpoint("sft", *chat)], scores={"SFT": expected}) == {
        "SFT (format)": "holds",
        "SFT (answer)": "does not hold",
    }
    run = [
        checkpoint(name, *(score(f"task{k}", base + k / 10, suite="long") for k in range(4)), score("task9", 0.0))
        for name, base in (("main", 0.1), ("longer", 0.5))
    ]
    (found,) = outcomes(run, scores={"a": {"at": "longer", "suite": "long", "metric": "acc", "above": "main"}})
    assert found.verdict == "holds" and found.files == ("suite/main", "suite/longer")
    assert (found.before, found.after) == (pytest.approx(0.25), pytest.approx(0.65))
    assert found.low < 0.4 < found.high and found.high - found.low < 0.12  # four tasks are surer than one


def test_filters_and_groups_are_kept_apart() -> None:
    """The mean over a suite has each task once; what has two filters must be told which one."""
    several = [replace(score("gsm8k", value, suite="maths", metric="exact_match"), filter=name)
               for name, value in (("strict", 0.2), ("flexible", 0.8))]  # fmt: skip
    plain = score("asdiv", 0.6, suite="maths", metric="exact_match")
    group = replace(score("all", 0.9, suite="maths", metric="exact_match"), tasks=("gsm8k", "asdiv"))
    run = [checkpoint("main", *several, plain, group)]
    task = {"at": "main", "suite": "maths", "task": "gsm8k", "above": 0.5}
    assert verdicts(run, scores={"a": task}) == {"a (exact_match, flexible)": "holds",
                                                 "a (exact_match, strict)": "does not hold"}  # fmt: skip
    assert verdicts(run, scores={"a": task | {"filter": "flexible"}}) == {"a": "holds"}
    assert verdicts(run, scores={"a": task | {"task": "all"}}) == {"a": "holds"}
    mean = {"at": "main", "suite": "maths", "metric": "exact_match", "above": 0.5}
    assert verdicts(run, scores={"a": mean}) == {"a (name a filter: flexible, none, strict)": "not measured"}
    (found,) = outcomes([checkpoint("main", several[0], plain, group)], scores={"a": mean})
    assert found.after == pytest.approx(0.4)


def test_what_is_no_share_is_compared_in_its_own_unit() -> None:
    before, after = (
        Score("translate", "bleu", value, value - 1, value + 1, 50, 0.0, "FG", share=False) for value in (10.0, 30.0)
    )
    run = [checkpoint("main", before), checkpoint("sft", after)]
    (found,) = outcomes(run, scores={"a": {"at": "sft", "task": "translate", "above": "main"}})
    assert (found.verdict, found.unit, found.before, found.after) == ("holds", "score", 10.0, 30.0)
    assert (found.low, found.high) == pytest.approx((20 - 2**0.5, 20 + 2**0.5))


def test_inside_a_stage_is_not_its_end() -> None:
    end = checkpoint("main", score("facts", 0.9))
    inside = Checkpoint("main-at-8", "", end.stage, 0, {}, [], "evaluation/x")
    assert verdicts([end, inside], scores={"a": {"at": "main", "task": "facts", "above": 0.5}}) == {"a": "holds"}
    assert verdicts([inside], scores={"a": {"at": "main", "task": "facts", "above": 0.5}}) == {"a": "not measured"}


def test_heldout_losses() -> None:
    def heldout(code: float, web: float) -> list[HeldOut]:
        return [
            HeldOut("python", "code", 100, code, code, code - 0.05, code + 0.05),
            HeldOut("english", "web", 100, web, web, web - 0.05, web + 0.05),
        ]

    run = [checkpoint("main", heldout=heldout(2.0, 2.0)), checkpoint("second", heldout=heldout(1.5, 2.2))]
    found = outcomes(
        run,
        heldout={
            "all": {"at": "second", "below": "main"},
            "code": {"at": "second", "below": "main", "domain": "code"},
            "web": {"at": "second", "below": "main", "sources": ["english"]},
            "web kept": {"at": "second", "not_above": "main", "domain": "web"},
            "code kept": {"at": "second", "not_above": "main", "domain": "code"},
            "number": {"at": "second", "below": 1.6, "domain": "code"},
            "no such source": {"at": "second", "below": "main", "sources": ["python", "another"]},
            "no such checkpoint": {"at": "sft", "below": "main"},
        },
    )
    assert {o.text: o.verdict for o in found} == {
        "all": "holds",
        "code": "holds",
        "web": "does not hold",
        "web kept": "does not hold",
        "code kept": "holds",
        "number": "holds",
        "no such source": "not measured",
        "no such checkpoint": "not measured",
    }
    assert found[1].before == 2.0 and found[1].after == 1.5 and found[1].unit == "bits per byte"
    assert found[0].files == ("evaluation/main", "evaluation/second") and found[5].files == ("evaluation/second",)


def test_pooled_bits_per_byte_weighs_by_bytes() -> None:
    one = HeldOut("a", "d", 100, 0.6931471805599453, 1.0, 0.9, 1.1)  # 100 bits over 100 bytes
    two = HeldOut("b", "d", 100, 3 * 0.6931471805599453, 1.0, 0.9, 1.1)  # 300 bits over 300 bytes
    value, _, high = pooled([one, two])
    assert value == pytest.approx(1.0) and high - value == pytest.approx(0.1 * (0.25**2 + 0.75**2) ** 0.5)


@pytest.mark.parametrize(
    "slope, by, steps, verdict",
    [
        (-0.01, 0.0, 100, "holds"),
        (-0.01, 0.5, 100, "holds"),
        (-0.01, 1.5, 100, "does not hold"),
        (0.01, 0.0, 100, "does not hold"),
        (0.0, 0.0, 100, "within noise"),
        (0.0, 0.0, 3, "not measured"),
    ],
)
def test_loss_of_a_stage(tmp_path: Path, slope: float, by: float, steps: int, verdict: str) -> None:
    lines = [{"step": s, "tokens": s, "loss": 4 + slope * s + 0.05 * (-1) ** s} for s in range(steps)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stage = GraphStage("main", "pretraining", "main", "main")
    run = [ReportArtefact("segment", "main-0-100", tmp_path, 0, stage)]
    assert verdicts([], run, losses={"a": {"stage": "main", "by": by}}) == {"a": verdict}
    assert verdicts([], run, losses={"a": {"stage": "second"}}) == {"a": "not measured"}


@pytest.mark.parametrize("count, verdict", [(10, "holds"), (9, "does not hold")])
def test_documents_that_cleaning_drops(tmp_path: Path, count: int, verdict: str) -> None:
    (tmp_path / "cleaning.json").write_text(json.dumps({"dropped": {"exact_duplicate": count}}))
    run = [ReportArtefact("documents", "web", tmp_path, 0, GraphStage("data", "data", "data", "data"))]
    expected = {"source": "web", "reason": "exact_duplicate", "at_least": 10}
    expected = {
        "copies": expected,
        "none at all": expected | {"reason": "near_duplicate"},
        "another": expected | {"source": "code"},
    }
    assert verdicts([], run, cleaning=expected) == {
        "copies": verdict,
        "none at all": "does not hold",
        "another": "not measured",
    }


def test_the_section_counts_what_was_not_measured() -> None:
    section = expectations_section(
        [
            Outcome("kept", "holds", "percent", 0.5, 0.61, 0.05, 0.2, ("evaluation/x",)),
            Outcome("lost", "not measured", "percent"),
            Outcome("fell", "within noise", "bits per byte", 2.0, 1.9, -0.2, 0.1),
            Outcome("found", "does not hold", "documents", 1200, 3),
        ]
    )
    assert section is not None and expectations_section([]) is None
    assert section.lead.endswith("1 hold, 1 do not hold, 1 cannot be told from noise and 1 were not measured.")
    assert [row[:5] for row in section.blocks[0].rows] == [
        ["kept", "percent", "50.0%", "61.0%", "+5.0 to +20.0"],
        ["lost", "percent", "–", "–", "–"],
        ["fell", "bits per byte", "2.000", "1.900", "−0.200 to +0.100"],
        ["found", "documents", "1,200", "3", "–"],
    ]
    assert math.isnan(Outcome("lost", "not measured", "percent").after)


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
