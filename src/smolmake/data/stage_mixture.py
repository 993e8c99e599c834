"""The mixture of one stage as an artefact: how much of which shards in what order, from where in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smolmake.data.loader import open_mixture
from smolmake.data.mixture import build_pattern, period_for, slot_counts
from smolmake.data.token_shards import open_shards
from smolmake.errors import UserError
from smolmake.execution.job import Job
from smolmake.execution.step import Run
from smolmake.files import write_json
from smolmake.graph.specs.data import MixtureSpec


def build_mixture(job: Job[MixtureSpec, Run]) -> None:
    weights, length = job.spec.weights, job.spec.sequence_length
    counts = slot_counts(weights, period_for(weights))
    seen = drawn_before(job)
    first = {name: seen.get(name, 0) for name in weights}
    packed = {
        name: about_packing(folder, job.facts(f"packing:{name}")) for name, folder in job.group("packing").items()
    }
    sources = {}
    for name, folder in job.group("shards").items():
        found = packed.get(name) or {"available": open_shards(folder, job.facts(f"shards:{name}")).sequences(length)}
        if found["available"] == 0:
            raise UserError(
                f"the source `{name}` has not one sequence of {length} tokens for stage {job.name}",
                key=f"mixture.{name}", value=f"{job.facts(f'shards:{name}')['tokens']} tokens",
                remedy="give it more text, or take it out of the mixture",
            )  # fmt: skip
        shards = job.inputs[f"shards:{name}"].parent
        sources[name] = {
            "asked": weights[name],
            "share": counts[name] / sum(counts.values()),
            "first": first[name],
            "shards": f"{shards.parent.name}/{shards.name}",
            **found,
        }
    sources = dict(sorted(sources.items()))
    np.save(job.folder / "pattern.npy", build_pattern([counts[name] for name in sources]))
    description = {
        "stage": job.name,
        "label": job.spec.label,
        "seed": job.spec.seed,
        "sequence_length": length,
        "sources": sources,
        "drawn_before": seen,
    }
    write_json(job.folder / "mixture.json", description)
    job.finish(["mixture.json", "pattern.npy"], {"period": sum(counts.values()), "sources": len(sources)})


def about_packing(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """What the mixture says of a source that is packed: where, its sequences, and the tokens and padding in them."""
    about = {"packing": f"{folder.parent.name}/{folder.name}", "available": facts["sequences"]}
    return about | {"epoch_tokens": facts["tokens"], "padding": facts["padding"]}


def drawn_before(job: Job[MixtureSpec, Run]) -> dict[str, int]:
    """How many sequences of each source the earlier stages of the run have drawn: the stage goes on from there."""
    if job.spec.before_sequences is None:
        return {}
    before, description = open_mixture(job.input("before"))
    drawn = before.draws_before(job.spec.before_sequences)
    earlier: dict[str, int] = description["drawn_before"]
    return earlier | {name: before.first[name] + drawn[name] for name in before.names}
