"""Sources that would be repeated far more often than their cap, as the sizes of their files tell before anything runs.

The step `epochs` counts exactly, but only after cleaning and tokenizing.
"""

from __future__ import annotations

from collections.abc import Iterator

from smolmake.graph.specs.data import EpochsSpec, MixtureSpec
from smolmake.planning.cost import source_tokens
from smolmake.planning.workflow import Workflow

FAR = 2.0  # times the cap: the estimate of the tokens is no better than that


def repeat_warnings(workflow: Workflow, running: set[str]) -> list[str]:
    """A line for each source that would be seen more than FAR times its cap; none once they are counted."""
    told: dict[str, str] = {}
    for source, stage, epochs, cap in _epochs(workflow, running):
        if epochs > FAR * cap:
            told[source] = (
                f"the source `{source}` would be seen about {epochs:,.0f} times by the end of {stage}, and its repeat"
                f" cap (sources.{source}.max_epochs) is {cap:g}: the step `epochs` is likely to refuse it. Give more"
                " text, train fewer steps, lower its weight, or raise the cap"
            )
    return list(told.values())


def _epochs(workflow: Workflow, running: set[str]) -> Iterator[tuple[str, str, float, float]]:
    """Source, stage, epochs by the end of the stage (roughly, before cleaning) and cap, where tokens are known."""
    sources, root = workflow.recipe.sources, workflow.steps.root
    tokens = {
        name: source.tokens if source.shards is not None else source_tokens(source, root)
        for name, source in sources.items()
    }
    for epochs in workflow.steps.of_kind("epochs"):
        if epochs.key not in running:
            continue
        seen: dict[str, float] = {}
        for stage in epochs.spec_as(EpochsSpec).stages:
            mixture = epochs.inputs[f"mixture:{stage.stage}"].spec_as(MixtureSpec)
            if mixture.before_sequences is None:  # a long-context extension counts from 0
                seen = {}
            for name, weight in mixture.weights.items():
                drawn = weight * stage.sequences * mixture.sequence_length
                seen[name] = seen.get(name, 0.0) + drawn
                if available := tokens[name]:
                    yield name, stage.stage, seen[name] / available, sources[name].max_epochs
