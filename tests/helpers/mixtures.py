"""Mixtures without shards."""

from smolmake.data.mixture import Mixture, build_pattern, make_mixture, period_for, slot_counts

Weights = dict[str, float]


LENGTH = 8


def mixture_of(
    weights: Weights, seed: int = 0, label: str = "pretraining", first: int = 0, length: int = LENGTH
) -> Mixture:
    counts = slot_counts(weights, period_for(weights))
    names = sorted(weights)
    description = {
        "sources": {name: {"first": first} for name in names},
        "sequence_length": length,
        "seed": seed,
        "label": label,
    }
    return make_mixture(description, build_pattern([counts[name] for name in names]))
