"""Models that exist are measured on what the recipe's own checkpoints are measured on, or alone."""

from pathlib import Path

import pytest
from helpers.recipes import SMALL, load

from smolmake.execution.step import Steps
from smolmake.graph.build import build_steps

MODELS = """\
evaluation:
  models:
    theirs: {hub: a/b, revision: c0ffee}
    assistant: {hub: a/c, revision: c0ffee, chat: true}
  suites:
    reading: {tasks: [hellaswag], on: stage_ends}
    chat: {tasks: [ifeval], chat: true}
"""


def steps_of(tree: Path, text: str) -> Steps:
    return build_steps(load(tree, text), tree)


@pytest.mark.parametrize("text", ["name: alone\n", SMALL])
def test_each_model_has_an_evaluation_and_the_suites_that_are_for_it(tree: Path, text: str) -> None:
    """Chat is asked of a model that says it answers, by its own template."""
    steps = steps_of(tree, text + MODELS)
    own = [step.name for step in steps.of_kind("evaluation") if step.inputs["checkpoint"].kind != "adopted"]
    assert [step.name for step in steps.of_kind("evaluation")] == [*own, "theirs", "assistant"]
    suites = {step.name for step in steps.of_kind("suite") if step.inputs["checkpoint"].kind == "adopted"}
    assert suites == {"theirs.reading", "assistant.reading", "assistant.chat"}
    assert [name for name in steps.checkpoints if name in ("theirs", "assistant")] == ["theirs", "assistant"]


def test_another_model_or_published_numbers_rerun_nothing_but_the_report(tree: Path) -> None:
    before = set(steps_of(tree, SMALL).all)
    card = "published: {card: {source: a, at: theirs, scores: [{task: b, metric: acc, value: 1}]}}"
    after = set(steps_of(tree, f"{SMALL}evaluation: {{models: {{theirs: {{hub: a/b, revision: c}}}}, {card}}}\n").all)
    assert {key.partition("/")[0] for key in before - after} == {"report"}
    assert {key.rpartition("-")[0] for key in after - before} == {"adopted/theirs", "evaluation/theirs", "report/small"}
