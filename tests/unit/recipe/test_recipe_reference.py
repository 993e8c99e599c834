"""docs/reference/recipe.md and config/recipe.schema.json are in step with the schema, and its example is a recipe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from helpers.recipes import sections_in
from recipe_example import EXAMPLE
from write_reference import render, section_places

from smolmake.recipe.schema import Recipe
from smolmake.yaml_files import parse_yaml

ROOT = Path(__file__).parents[3]


def test_the_page_and_the_schema_are_in_step() -> None:
    command = [sys.executable, ROOT / "tools" / "write_reference.py", "--check"]
    check = subprocess.run(command, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_every_key_is_described() -> None:
    schema, page = Recipe.model_json_schema(), render()
    for name in section_places(schema):
        for key, part in (schema["$defs"].get(name) or schema)["properties"].items():
            assert part.get("description"), f"{name}.{key} has no description"
            assert f"| `{key}` |" in page


def test_links_lead_to_headings() -> None:
    page = render()
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors


def test_example_is_a_recipe_with_every_key() -> None:
    example = re.search(r"```yaml\n(.*?)```", render(), re.DOTALL)
    assert example is not None
    recipe = Recipe.model_validate(parse_yaml(example[1]))
    assert recipe == Recipe.model_validate(EXAMPLE)
    assert set(section_places(Recipe.model_json_schema())) == {model.__name__ for model in sections_in(recipe)}
