"""Each kind of steps has all that belongs to it: a rule, a script, an environment, a row of the docs, a cost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smolmake.execution.kinds import KINDS, script_of
from smolmake.planning.cost import Costs
from smolmake.planning.workflow import load_workflow

ROOT = Path(__file__).parents[3]
RULE = re.compile(r"^(?:use rule step as (\w+) with|rule link_results):$(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
RULES = {
    match[1]: match[2]
    for file in (ROOT / "workflow" / "rules").glob("*.smk")
    for match in RULE.finditer(file.read_text())
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_all_that_belongs_to_it(kind: str) -> None:
    assert script_of(kind, ROOT).is_file(), "no script of this kind in workflow/scripts"
    assert kind in RULES, "no rule of this kind in workflow/rules"
    environment = ROOT / "envs" / f"{KINDS[kind].environment}.yaml"
    assert f"#   {kind}.py\n" in environment.read_text(), "run python tools/write_environments.py"
    assert re.search(
        rf"^\| (`\w+`, )*`{kind}`", (ROOT / "docs" / "reference" / "artefacts.md").read_text(), re.MULTILINE
    )
    estimated = hasattr(Costs, f"_{kind}")
    assert estimated or KINDS[kind].time == "short", "planning/cost.py does not say what it costs"


@pytest.mark.parametrize("recipe", ["toy", "smollm3", "smol-135m", "baseline-1b"])
def test_rules_name_every_role_in_which_their_steps_read(recipe: str, root: Path) -> None:
    """A role that a rule does not name would be no input of its jobs, which would start before it is there."""
    steps = load_workflow(recipe, root).steps.all.values()
    for kind in {step.kind for step in steps}:
        roles = {role.partition(":")[0] for step in steps if step.kind == kind for role in step.inputs}
        assert roles <= set(re.findall(r"(\w+)=role\(\"\1\"\)", RULES[kind])), kind


def test_nothing_stands_for_a_kind_that_is_not_in_the_table() -> None:
    assert set(RULES) - set(KINDS) == {None}
    scripts = {path.stem for path in (ROOT / "workflow" / "scripts").glob("*.py")}
    assert scripts - set(KINDS) == {"link_results"}
