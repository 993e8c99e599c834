"""docs/reference/recipe.md is in step with the schema, and its example is a recipe."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import BaseModel

from smolmake.recipe.example import EXAMPLE
from smolmake.recipe.load import Loader
from smolmake.recipe.reference import COMMAND, hints, parts, render
from smolmake.recipe.schema import Recipe

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "recipe.md"


def test_page_is_in_step() -> None:
    assert PAGE.read_text() == render(), f"docs/reference/recipe.md is out of step with the schema: run `{COMMAND}`"


def test_every_key_is_described() -> None:
    for part in parts():
        for key in hints(part.model):
            assert part.model.model_fields[key].description, f"{part.model.__name__}.{key} has no description"
            assert f"| `{key}` |" in render()


def test_links_lead_to_headings() -> None:
    page = render()
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors


def test_example_is_a_recipe_with_every_key() -> None:
    example = re.search(r"```yaml\n(.*?)```", render(), re.DOTALL)
    assert example is not None
    values = yaml.load(example[1], Loader=Loader)  # noqa: S506 (a subclass of SafeLoader)
    recipe = Recipe.model_validate(values)
    assert recipe == Recipe.model_validate(EXAMPLE)
    assert {part.model for part in parts()} == set(_models_in(recipe))


def _models_in(value: object) -> list[type[BaseModel]]:
    """The classes of all sections in a recipe."""
    if isinstance(value, BaseModel):
        return [
            type(value),
            *(model for key in type(value).model_fields for model in _models_in(getattr(value, key))),
        ]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [model for item in items for model in _models_in(item)]
