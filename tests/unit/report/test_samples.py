"""Several answers to an item: those of several jobs are one score, with the best of k beside it."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from helpers.recipes import SMALL, load

from smolmake.graph.build import build_steps
from smolmake.graph.specs.evaluate import SuiteSpec
from smolmake.report.samples import best_of, join_samples
from smolmake.stats import share_interval

Row = dict[str, Any]
RIGHT = [[1.0, 0, 0], [1.0, 1, 0], [0.0, 1, 0], [1.0, 0, 0]]  # of four answers to three items


def row(answers: list[list[float]], **more: Any) -> Row:
    items = [sum(each) / len(answers) for each in zip(*answers, strict=True)]
    samples = answers if len(answers) > 1 else []
    about = {"task": "aime", "metric": "acc", "filter": "none", "length": None, "share": True, "chance": 0.0, "n": 3}
    found = {"value": sum(items) / 3, "low": 0.0, "high": 1.0, "items": items, "samples": samples, "clusters": []}
    return about | found | {"repeats": len(answers)} | more


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_answers_of_two_jobs_are_those_of_one(cut: int) -> None:
    (joined,) = join_samples([[row(RIGHT[:cut], cut=0.5)], [row(RIGHT[cut:], cut=0.1)]])
    whole = row(RIGHT)
    assert joined["items"] == whole["items"] and joined["samples"] == RIGHT and joined["repeats"] == 4
    assert (joined["value"], joined["low"], joined["high"]) == share_interval(whole["items"], [], 12)
    assert joined["cut"] == pytest.approx((0.5 * cut + 0.1 * (4 - cut)) / 4)


def test_what_is_no_mean_over_items_is_averaged_by_answers() -> None:
    parts = [[row(RIGHT[:3], items=[], samples=[], value=20.0)], [row(RIGHT[3:], items=[], samples=[], value=40.0)]]
    (joined,) = join_samples(parts)
    assert joined["value"] == 25.0 and joined["items"] == [] and list(best_of(joined)) == []


def test_pass_at_k_is_that_of_all_choices_of_k_answers() -> None:
    found = {each["metric"]: each for each in best_of(row(RIGHT, chance=0.5))}
    assert list(found) == ["acc pass@2", "acc pass@4"]
    for k in (2, 4):
        picks = list(combinations(range(4), k))
        items = [sum(any(RIGHT[answer][item] for answer in pick) for pick in picks) / len(picks) for item in range(3)]
        assert found[f"acc pass@{k}"]["items"] == pytest.approx(items) and found[f"acc pass@{k}"]["beside"]
        assert found[f"acc pass@{k}"]["value"] == pytest.approx(sum(items) / 3)
        assert found[f"acc pass@{k}"]["chance"] == 1 - 0.5**k
    assert list(best_of(row(RIGHT[:1]))) == list(best_of(row([[0.5, 1, 0], [0.0, 1, 1]]))) == []


def test_more_answers_are_added_to_those_that_are_there(tree: Path) -> None:
    def suites(repeats: int) -> dict[str, str]:
        asked = f"{{tasks: [aime25], on: stage_ends, repeats: {repeats}, generation: {{do_sample: true}}}}"
        steps = build_steps(load(tree, f"{SMALL}evaluation: {{suites: {{aime: {asked}}}}}\n"), tree).of_kind("suite")
        for step in steps:
            assert step.name.endswith(step.spec_as(SuiteSpec).name_of_part)
        total = sum(step.spec_as(SuiteSpec).harness.repeats for step in steps if step.name.startswith("stage2"))
        assert total == repeats
        return {step.name: step.key for step in steps if step.name.startswith("stage2")}

    few, many = suites(8), suites(20)
    assert list(many) == [f"stage2-20-30.aime{part}" for part in ("", ".from-8", ".from-16")]
    assert few.items() < many.items()
