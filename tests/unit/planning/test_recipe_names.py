"""Two recipes of one name write the same results/latest: the plan says so, and names both files."""

from pathlib import Path

import pytest
from helpers.recipes import SMALL, write_recipe

from smolmake.planning.plan import make_plan
from smolmake.planning.recipe_names import name_warnings
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import load_workflow


@pytest.mark.parametrize("other", [SMALL, "extends: mine\nseed: 1\n"])
def test_two_recipes_of_one_name_are_told(tree: Path, other: str) -> None:
    write_recipe(tree, SMALL)
    write_recipe(tree, other, "other")
    said = plan_text(make_plan(load_workflow("mine", tree)))
    assert "config/recipes/other.yaml has the name `small` too, as config/recipes/mine.yaml has" in said


def test_one_recipe_of_a_name_is_not(tree: Path) -> None:
    file = write_recipe(tree, SMALL)
    write_recipe(tree, "extends: mine\nname: another\n", "other")
    write_recipe(tree, "extends: [\n", "broken")
    assert name_warnings("small", file, tree) == []
    assert name_warnings("small", tree / "elsewhere.yaml", tree)  # a copy that lies elsewhere
