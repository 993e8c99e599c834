"""The model: architecture, initial values, and its form on disk."""
