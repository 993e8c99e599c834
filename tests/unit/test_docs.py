"""The docs name files that are there, and pages that the site has."""

import re
from pathlib import Path

import pytest
import yaml
from helpers.training import ROOT

from smolmake.planning.plan import make_plan
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import load_workflow

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks" / "results").glob("*.md"), *ROOT.glob("*.md")])
FILES = re.compile(r"`((?:src/smolmake|workflow|tests|tools|benchmarks|profiles|config|examples)/[\w/.-]+\.\w+)`")
TESTS = re.compile(r"`((?:unit|graph|pipeline|slurm)/[\w/]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    names = FILES.findall(text) + [f"tests/{name}.py" for name in TESTS.findall(text)]
    assert not [name for name in names if "NAME" not in name and not (ROOT / name).is_file()]
    links = re.findall(r"\]\(([^)#:]+\.\w+)(?:#[^)]*)?\)", text)
    assert not [link for link in links if not (page.parent / link).is_file()]


def test_the_readme_shows_the_recipe_as_it_is() -> None:
    recipe = (ROOT / "examples" / "my-texts" / "recipe.yaml").read_text()
    assert f"```yaml\n{recipe.partition(chr(10))[2]}```" in (ROOT / "README.md").read_text()


def test_the_plan_of_the_toy_is_shown_as_it_is(tree: Path) -> None:
    plan = plan_text(make_plan(load_workflow("toy", tree)))
    for page in ("README.md", "docs/tutorial/4-change.md"):
        shown = re.search(r"Plan of toy.*?missing: \d+ steps", (ROOT / page).read_text(), re.DOTALL)
        assert shown is not None and shown[0] in plan, page


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    assert isinstance(yaml.safe_load(text)["nav"], list)
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in text, page
