"""Random edits of code, files and recipes, what the plan says of each, and what really differs."""
