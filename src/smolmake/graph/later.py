"""The steps after pretraining: mid-training, SFT, preference pairs, APO, the merge, and every evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolmake.execution.content_hash import content_digest
from smolmake.execution.step import Step, Steps
from smolmake.graph.datasets import place
from smolmake.recipe.evaluation import Suite
from smolmake.recipe.posttraining import Apo, Conversations, PostTraining, SupervisedTraining
from smolmake.recipe.runtime import Layout
from smolmake.recipe.schema import Recipe

CHAT_KINDS = ("posttraining", "alignment", "merge")


def add_post_training(steps: Steps, recipe: Recipe) -> None:
    """Mid-training, SFT, preference pairs, APO and the merge, each from the step before."""
    for name, key, section in (("mid", "mid_training", recipe.mid_training), ("sft", "sft", recipe.sft)):
        if section is not None:
            _supervised(steps, recipe, name, key, section)
    pairs: Step | None = None
    if recipe.preferences is not None:
        pairs_section = recipe.preferences
        inputs = {"strong": steps.checkpoints[pairs_section.strong], "weak": steps.checkpoints[pairs_section.weak]}
        spec = pairs_section.model_dump(exclude={"strong", "weak", "prompts"}) | {"seed": recipe.seed}
        spec["prompts"] = place(steps, pairs_section.prompts, inputs, "prompts")
        spec["template"] = template_text(steps, recipe)
        run = _run(recipe, "apo", devices=1)
        pairs = steps.add("preferences", "pairs", spec, inputs, "apo", ("preferences", "seed"), **run)
    if recipe.apo is not None:
        _alignment(steps, recipe, recipe.apo, pairs)
    if recipe.merge is not None:
        total = math.fsum(recipe.merge.weights.values())
        weights = {name: weight / total for name, weight in recipe.merge.weights.items() if weight > 0}
        inputs = {f"model:{name}": steps.checkpoints[name] for name in weights}
        inputs["tokenizer"] = list(steps.checkpoints.values())[-1]
        merged = steps.add("merge", "merged", {"weights": weights}, inputs, "merge", ("merge",))
        steps.checkpoints["merged"] = merged


def _supervised(steps: Steps, recipe: Recipe, name: str, key: str, section: SupervisedTraining) -> None:
    inputs = {"parent": list(steps.checkpoints.values())[-1]}
    spec = _training_spec(section, recipe) | {"loss": section.loss, "packing": section.packing}
    spec["template"] = _template(steps, section)
    spec["data"] = _shares(steps, section.data, inputs)
    steps.checkpoints[name] = steps.add("posttraining", name, spec, inputs, name, (key, "seed"), **_run(recipe, name))


def _alignment(steps: Steps, recipe: Recipe, section: Apo, pairs: Step | None) -> None:
    """APO, or a soup: the mean of several runs that differ in their seed alone."""
    runs: dict[str, Step] = {}
    for number in range(section.soup):
        inputs = {"parent": steps.checkpoints["sft"]} | ({"pairs": pairs} if pairs is not None else {})
        spec = _training_spec(section, recipe) | {"beta": section.beta}
        spec["seed"] += number
        spec["data"] = _shares(steps, section.data, inputs)
        name = "apo" if section.soup == 1 else f"apo-{number + 1}"
        runs[name] = steps.add("alignment", name, spec, inputs, "apo", ("apo", "seed"), **_run(recipe, "apo"))
    checkpoint = runs.get("apo")
    if checkpoint is None:
        inputs = {f"model:{name}": step for name, step in runs.items()} | {"tokenizer": next(iter(runs.values()))}
        weights = dict.fromkeys(runs, 1 / len(runs))
        checkpoint = steps.add("merge", "apo", {"weights": weights}, inputs, "apo", ("apo.soup",))
    steps.checkpoints["apo"] = checkpoint


def _shares(steps: Steps, data: dict[str, Conversations], inputs: dict[str, Step]) -> dict[str, dict[str, Any]]:
    return {name: place(steps, files, inputs, f"data:{name}") | {"share": files.share} for name, files in data.items()}


def _training_spec(section: PostTraining, recipe: Recipe) -> dict[str, Any]:
    spec = section.model_dump(include=set(PostTraining.model_fields))
    return spec | {"seed": recipe.seed if section.seed is None else section.seed}


def _run(recipe: Recipe, group: str, devices: int | None = None) -> dict[str, Any]:
    """How a step of that group runs: on its layout, or on that many devices of one node of it."""
    layout = recipe.run.layouts.get(group)
    if layout is not None and devices is not None:
        layout = Layout(gpus_per_node=min(layout.gpus_per_node, devices), mfu=layout.mfu)
    return recipe.run.model_dump(exclude={"layouts"}) | {
        "layout": layout.model_dump() if layout is not None else None,
        "launcher": (layout or Layout()).launcher(recipe.run.threads_posttraining),
    }


def _template(steps: Steps, section: SupervisedTraining) -> str:
    return (steps.root / "config" / "templates" / section.chat_template).read_text()


def template_text(steps: Steps, recipe: Recipe) -> str | None:
    """The chat template that prompts are rendered with: the SFT step's, else mid-training's."""
    section = recipe.sft or recipe.mid_training
    return None if section is None else _template(steps, section)


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
                yield Evaluated(f"{step.group}-at-{at}", step, at, False)
            yield Evaluated(step.name, step, None, step.key in last)
        elif step.kind in CHAT_KINDS or step.label == "adopted/base":
            yield Evaluated(step.name, step, None, True)


def add_evaluations(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> None:
    """One evaluation for every checkpoint, milestones included, and one for each of its suites."""
    section = recipe.evaluation
    template = template_text(steps, recipe)
    keys = tuple(f"evaluation.{key}" for key in ("tasks", "data", "limit", "prompts", "chat_prompts"))
    shared_inputs: dict[str, Step] = {"heldout": _heldout(steps, recipe, documents)} if documents else {}
    run = _run(recipe, "evaluation")
    length = recipe.pretraining.sequence_length if recipe.pretraining is not None else None
    shared: dict[str, Any] = section.model_dump(include={"limit", "prompts", "chat_prompts"})
    shared |= {"template": template, "tasks": None, "heldout_tokens": length}  # the same text for every checkpoint
    checkpoints = list(evaluated(steps))
    if section.tasks is not None and section.data is not None:
        folder = Path("config/tasks") / section.tasks
        shared["tasks"] = {"folder": folder.as_posix(), "content": content_digest(folder.as_posix(), steps.root)}
        shared["data"] = place(steps, section.data, shared_inputs, "data")
    asked = {
        name: suite.model_dump(exclude={"on", "tokens", "decontamination"})
        | {"template": template if suite.chat else None}
        for name, suite in section.suites.items()
    }
    _drill(steps, recipe, shared, asked, shared_inputs, run)
    for checkpoint in checkpoints:
        inputs = {"checkpoint": checkpoint.step, **shared_inputs}
        spec, told = shared | checkpoint.spec, (*keys, *checkpoint.keys)
        steps.add("evaluation", checkpoint.name, spec, inputs, checkpoint.step.group, told, **run)
        for name, suite in section.suites.items():
            if _asked(suite, checkpoint):
                spec, inputs = asked[name] | checkpoint.spec, {"checkpoint": checkpoint.step}
                told, label = (f"evaluation.suites.{name}", *checkpoint.keys), f"{checkpoint.name}.{name}"
                steps.add("suite", label, spec, inputs, checkpoint.step.group, told, **run, suite=name)


def _drill(
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
    steps.add("drill", recipe.name, spec, inputs, "preflight", keys, **run)


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
    chat = checkpoint.step.kind in CHAT_KINDS
    if suite.on == "chat" or suite.chat:
        return chat
    return suite.on == "all" or checkpoint.ends
