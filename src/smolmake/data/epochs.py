"""How often each source is seen by the end of each stage, against its repeat cap."""

from __future__ import annotations

import sys
from typing import Any

from smolmake.data.loader import open_mixture
from smolmake.errors import UserError
from smolmake.execution.job import Job
from smolmake.execution.step import Run
from smolmake.files import write_json
from smolmake.graph.specs.data import EpochsSpec


def count_epochs(job: Job[EpochsSpec, Run]) -> None:
    stages = []
    for stage in job.spec.stages:
        mixture, description = open_mixture(job.input(f"mixture:{stage.stage}"))
        drawn = mixture.draws_before(stage.sequences)
        sources = {}
        for name, about in description["sources"].items():
            sources[name] = about | job.spec.sources[name].model_dump() | {
                "drawn": drawn[name],
                "epochs_before": about["first"] / about["available"],
                "epochs_after": (about["first"] + drawn[name]) / about["available"],
            }  # fmt: skip
            if "packing" in about:  # exact after whole epochs: within one, a sequence counts as the mean of all
                sources[name]["tokens"] = drawn[name] * about["epoch_tokens"] // about["available"]
        stages.append({**stage.model_dump(), "sequence_length": mixture.sequence_length, "sources": sources})
    show(stages)
    check(stages)
    write_json(job.folder / "epochs.json", {"stages": stages})
    epochs = {stage["stage"]: {n: round(s["epochs_after"], 4) for n, s in stage["sources"].items()} for stage in stages}
    job.finish(["epochs.json"], {"epochs": epochs})


def check(stages: list[dict[str, Any]]) -> None:
    """Refuse a source that is repeated more often than its cap, or never drawn although it has a weight."""
    for stage in stages:
        for name, source in stage["sources"].items():
            cap = source["max_epochs"]
            if source["epochs_after"] > cap:
                raise UserError(
                    f"the source `{name}` would be seen {source['epochs_after']:.2f} times by the end of"
                    f" {stage['stage']}, more than its repeat cap of {cap:g}",
                    key=f"sources.{name}.max_epochs", value=cap,
                    remedy=f"lower its weight in {stage['stage']}, give more text, train fewer steps, or raise the cap",
                )  # fmt: skip
            if source["drawn"] == 0:
                raise UserError(
                    f"the source `{name}` has a weight in {stage['stage']} but would not be drawn once",
                    key=f"{stage['stage']}.mixture.{name}", value=source["asked"],
                    remedy="raise its weight or take it out",
                )  # fmt: skip


def show(stages: list[dict[str, Any]]) -> None:
    """Print the epochs of every source after every stage."""
    for stage in stages:
        for name, source in stage["sources"].items():
            text = f"{stage['stage']:<12}{name:<20}{source['share']:7.2%} {source['drawn']:>10,} sequences"
            text += f"  epochs {source['epochs_before']:.2f} → {source['epochs_after']:.2f}"
            padding = f"  {source['tokens']:,} tokens, {source['padding']:.2%} padding" if "packing" in source else ""
            print(text + padding, file=sys.stderr)
