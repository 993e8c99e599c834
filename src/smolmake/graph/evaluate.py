"""The steps of evaluation: every checkpoint, its suites, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from smolmake.execution.content_hash import content_digest
from smolmake.execution.kinds import KINDS
from smolmake.execution.step import Step, Steps
from smolmake.graph.datasets import place
from smolmake.graph.posttrain import run_of, template_text
from smolmake.recipe.evaluation import Suite
from smolmake.recipe.schema import Recipe


@dataclass(frozen=True)
class Evaluated:
    """A checkpoint to evaluate: the step that keeps it, and the milestone inside a segment, or None for its end."""

    name: str
    step: Step
    milestone: int | None
    ends: bool

    @property
    def spec(self) -> dict[str, Any]:
        return {} if self.milestone is None else {"milestone": self.milestone}

    @property
    def keys(self) -> tuple[str, ...]:
        return () if self.milestone is None else ("pretraining.milestone_steps",)


def evaluated(steps: Steps) -> Iterator[Evaluated]:
    """Every checkpoint of the graph in the order in which it comes to be; ends are those of stages and later steps."""
    last = {step.key for step in steps.checkpoints.values()}
    for step in list(steps.all.values()):
        if step.kind == "segment":
            for at in step.run["milestones"]:
                yield Evaluated(f"{step.stage}-at-{at}", step, at, False)
            yield Evaluated(step.name, step, None, step.key in last)
        elif KINDS[step.kind].chat or step.label == "adopted/base":
            yield Evaluated(step.name, step, None, True)


def add_evaluations(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> None:
    """One evaluation for every checkpoint, milestones included, and one for each of its suites."""
    section = recipe.evaluation
    template = template_text(steps, recipe)
    keys = tuple(f"evaluation.{key}" for key in ("tasks", "data", "limit", "prompts", "chat_prompts"))
    shared_inputs: dict[str, Step] = {"heldout": _heldout(steps, recipe, documents)} if documents else {}
    run = run_of(recipe, "evaluation")
    length = recipe.pretraining.sequence_length if recipe.pretraining is not None else None
    shared: dict[str, Any] = section.model_dump(include={"limit", "prompts", "chat_prompts"})
    shared |= {"template": template, "tasks": None, "heldout_tokens": length}  # the same text for every checkpoint
    checkpoints = list(evaluated(steps))
    if section.tasks is not None and section.data is not None:
        shared["tasks"] = {"folder": section.tasks, "content": content_digest(section.tasks, steps.root)}
        shared["data"] = place(steps, section.data, shared_inputs, "data")
    asked = {
        name: suite.model_dump(exclude={"on", "tokens", "decontamination"})
        | {"template": template if suite.chat else None}
        for name, suite in section.suites.items()
    }
    _check_tasks(steps, recipe, shared, asked, shared_inputs, run)
    for checkpoint in checkpoints:
        inputs = {"checkpoint": checkpoint.step, **shared_inputs}
        spec, told = shared | checkpoint.spec, (*keys, *checkpoint.keys)
        steps.add("evaluation", checkpoint.name, spec, inputs, checkpoint.step.stage, told, **run)
        for name, suite in section.suites.items():
            if _asked(suite, checkpoint):
                spec, inputs = asked[name] | checkpoint.spec, {"checkpoint": checkpoint.step}
                told, label = (f"evaluation.suites.{name}", *checkpoint.keys), f"{checkpoint.name}.{name}"
                steps.add("suite", label, spec, inputs, checkpoint.step.stage, told, **run, suite=name)


def _check_tasks(
    steps: Steps, recipe: Recipe, shared: dict[str, Any], suites: dict[str, Any], inputs: dict[str, Step],
    run: dict[str, Any],
) -> None:  # fmt: skip
    """Every task on a tiny model, where machines are checked too: a task that cannot run is found before training."""
    tokenizer = next(iter(steps.of_kind("tokenizer")), None)
    if tokenizer is None or not steps.of_kind("preflight") or not (shared["tasks"] or suites):
        return
    spec = {key: shared.get(key) for key in ("tasks", "data", "template")} | {"suites": suites}
    inputs = {"tokenizer": tokenizer, **{role: step for role, step in inputs.items() if role == "data"}}
    keys = ("evaluation.tasks", "evaluation.data", *(f"evaluation.suites.{name}" for name in suites))
    steps.add("check_tasks", recipe.name, spec, inputs, "preflight", keys, **run)


def _heldout(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> Step:
    """The held-out documents of all sources in one place, so that an evaluation has one input for them, not dozens."""
    told = {
        name: {"language": recipe.sources[name].language, "domain": recipe.sources[name].domain} for name in documents
    }
    spec = {"documents": recipe.evaluation.heldout_documents, "sources": told}
    inputs = {f"documents:{name}": step for name, step in documents.items()}
    keys = tuple(f"sources.{name}.{key}" for name in documents for key in ("language", "domain"))
    return steps.add("heldout", recipe.name, spec, inputs, "data", (*keys, "evaluation.heldout_documents"))


def _asked(suite: Suite, checkpoint: Evaluated) -> bool:
    """Whether a suite is for a checkpoint; one that asks through the chat template is for post-trained ones alone."""
    chat = KINDS[checkpoint.step.kind].chat
    if suite.on == "chat" or suite.chat:
        return chat
    return suite.on == "all" or checkpoint.ends
