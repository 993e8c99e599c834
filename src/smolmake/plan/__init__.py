"""The plan: the graph of a recipe as Snakemake asks for it, and what it would run."""
