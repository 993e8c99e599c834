"""Each kind of steps has all that belongs to it: a rule, a script, an environment, a row of the docs, a cost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smolmake.execution.kinds import KINDS, script_of
from smolmake.planning.cost import Costs

ROOT = Path(__file__).parents[3]
RULES = {
    match[1]: match[2]
    for file in (ROOT / "workflow" / "rules").glob("*.smk")
    for match in re.finditer(r"^rule (\w+):$(.*?)(?=^\S|\Z)", file.read_text(), re.MULTILINE | re.DOTALL)
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_all_that_belongs_to_it(kind: str) -> None:
    assert script_of(kind, ROOT).is_file(), "no script of this kind in workflow/scripts"
    assert kind in RULES, "no rule of this kind in workflow/rules"
    environment = ROOT / "envs" / f"{KINDS[kind].environment}.yaml"
    assert f"#   {kind}.py\n" in environment.read_text(), "run python tools/write_environments.py"
    assert re.search(rf"^\| (`\w+`, )*`{kind}`", (ROOT / "docs" / "artefacts.md").read_text(), re.MULTILINE)
    estimated = hasattr(Costs, f"_{kind}")
    assert estimated or KINDS[kind].time == "short", "planning/cost.py does not say what it costs"


def test_nothing_stands_for_a_kind_that_is_not_in_the_table() -> None:
    assert set(RULES) - set(KINDS) == {"link_results"}
    scripts = {path.stem for path in (ROOT / "workflow" / "scripts").glob("*.py")}
    assert scripts - set(KINDS) == {"link_results"}
