"""config/recipe.schema.json takes every recipe of the project, and refuses mistakes."""

from pathlib import Path

import pytest
from helpers.recipes import SMALL, changed
from jsonschema import Draft202012Validator
from recipe_example import commented_example
from recipe_schema import recipe_schema

from smolmake.yaml_files import parse_yaml, read_yaml

ROOT = Path(__file__).parents[3]
FILES = sorted(
    path
    for pattern in ("config/recipes/*.yaml", "examples/*/recipe.yaml", "tests/pipeline/*.yaml", "tests/slurm/*.yaml")
    for path in ROOT.glob(pattern)
)
FILE = ROOT / "config" / "recipe.schema.json"
MARK = "# yaml-language-server: $schema="


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(recipe_schema())
    return Draft202012Validator(recipe_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_recipe_of_the_project_names_the_schema_and_follows_it(validator: Draft202012Validator, path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith(MARK) and (path.parent / first.removeprefix(MARK)).resolve() == FILE
    assert not list(validator.iter_errors(read_yaml(path)))


def test_the_example_with_every_key_follows_it(validator: Draft202012Validator) -> None:
    assert not list(validator.iter_errors(parse_yaml(commented_example())))


@pytest.mark.parametrize(
    "text",
    [
        SMALL,
        "extends: toy\nsources: {code: null, english: {max_epochs: 2}}\n",
        "extends: smollm3\npretraining: {schedule: {warmup_steps: 5}}\n",
        changed("vocab_size: 512", "vocab_size: 49k"),
        changed("vocab_size: 512", "vocab_size: 1e4"),
        SMALL + "runtime: {recovery_every: 90s}\n",
        SMALL + "runtime: {recovery_every: 1.5h}\n",
        "extends: small\nmodel: smollm3-3b\nsources: smollm3\n",
    ],
)
def test_what_a_recipe_may_say_is_taken(validator: Draft202012Validator, text: str) -> None:
    assert not list(validator.iter_errors(parse_yaml(text)))


@pytest.mark.parametrize(
    "text",
    [
        SMALL + "mdel: {}\n",
        changed("vocab_size: 512", "vocab_size: 200"),
        changed("vocab_size: 512", "vocab_size: 512 tokens"),
        changed("vocab_size: 512", "vocab_size: 1.5"),
        changed("domain: code", "domain: code, max_epochs: 0"),
        changed("domain: code", "domain: code, on_error: pass"),
        changed("{name: stage1, steps: 20, ", "{name: stage1, "),
        SMALL + "runtime: {recovery_every: '12:30'}\n",
        SMALL + "runtime: {layouts: {stage1: {nodes: 0}}}\n",
    ],
)
def test_a_mistake_is_refused(validator: Draft202012Validator, text: str) -> None:
    assert list(validator.iter_errors(parse_yaml(text)))
