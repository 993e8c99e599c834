"""The steps after pretraining: mid-training, SFT, preference pairs, APO and the merge."""

from __future__ import annotations

import math
from typing import Any

from smolmake.execution.step import Step, Steps
from smolmake.graph.datasets import place
from smolmake.recipe.posttraining import Apo, Conversations, PostTraining, SupervisedTraining
from smolmake.recipe.runtime import Layout
from smolmake.recipe.schema import Recipe


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
        run = run_of(recipe, "apo", devices=1)
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
    steps.checkpoints[name] = steps.add("posttraining", name, spec, inputs, name, (key, "seed"), **run_of(recipe, name))


def _alignment(steps: Steps, recipe: Recipe, section: Apo, pairs: Step | None) -> None:
    """APO, or a soup: the mean of several runs that differ in their seed alone."""
    runs: dict[str, Step] = {}
    for number in range(section.soup):
        inputs = {"parent": steps.checkpoints["sft"]} | ({"pairs": pairs} if pairs is not None else {})
        spec = _training_spec(section, recipe) | {"beta": section.beta}
        spec["seed"] += number
        spec["data"] = _shares(steps, section.data, inputs)
        name = "apo" if section.soup == 1 else f"apo-{number + 1}"
        runs[name] = steps.add("alignment", name, spec, inputs, "apo", ("apo", "seed"), **run_of(recipe, "apo"))
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


def run_of(recipe: Recipe, group: str, devices: int | None = None) -> dict[str, Any]:
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
