"""smolmake: train a language model end to end, the way SmolLM3 was trained, as one Snakemake graph."""

__version__ = "0.1.0"
