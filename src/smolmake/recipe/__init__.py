"""The recipe: what a user writes. Its schema, its loading from YAML, and the errors that a user sees."""
