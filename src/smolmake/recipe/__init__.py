"""The recipe: its schema, its loading from YAML, and the errors that a user sees."""

from smolmake.recipe.load import load_recipe
from smolmake.recipe.schema import Recipe

__all__ = ["Recipe", "load_recipe"]
