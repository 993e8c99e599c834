"""Recipes of the tests: a small valid one without toy data, and the error that a changed one gives."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from smolmake.errors import UserError
from smolmake.recipe.load import load_recipe
from smolmake.recipe.schema import Recipe

SMALL = """\
name: small
sources:
  notes: {path: notes.txt}
  code: {path: notes.txt, domain: code}
tokenizer: {vocab_size: 512}
model: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1}
pretraining:
  sequence_length: 64
  global_batch_size: 4
  segment_steps: 10
  schedule: {lr: 1e-3, warmup_steps: 2, decay_steps: 5}
  stages:
    - {name: stage1, steps: 20, mixture: {notes: 0.5, code: 0.5}}
    - {name: stage2, steps: 10, mixture: {notes: 0.2, code: 0.8}}
"""


def write_recipe(tree: Path, text: str, name: str = "mine") -> Path:
    """The file config/recipes/NAME.yaml in `tree`, beside a text file for the sources of SMALL."""
    (tree / "notes.txt").write_text("Some text.\n")
    path = tree / "config" / "recipes" / f"{name}.yaml"
    path.write_text(text)
    return path


def load(tree: Path, text: str) -> Recipe:
    return load_recipe(str(write_recipe(tree, text)), tree)


def error_of(tree: Path, text: str) -> UserError:
    """The error that a recipe gives, after the checks that all errors must pass: named file, remedy, one screen."""
    path = write_recipe(tree, text)
    with pytest.raises(UserError) as caught:
        load_recipe(str(path), tree)
    error = caught.value
    assert str(error.file) == str(path)
    assert error.remedy
    assert len(str(error).splitlines()) <= 12, str(error)
    return error


def changed(old: str, new: str, text: str = SMALL) -> str:
    """`text` with a part that stands in it replaced."""
    assert old in text, old
    return text.replace(old, new, 1)


def sections_in(value: object) -> list[type[BaseModel]]:
    """The classes of all sections in a recipe."""
    if isinstance(value, BaseModel):
        fields = (getattr(value, key) for key in type(value).model_fields)
        return [type(value), *(model for field in fields for model in sections_in(field))]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [model for item in items for model in sections_in(item)]
