"""The steps after pretraining: mid-training, SFT, preference pairs, APO and the merge."""

from __future__ import annotations

import math

from smolmake.execution.step import Step, Steps
from smolmake.graph.datasets import dataset_spec
from smolmake.graph.specs.posttrain import (
    AlignmentSpec,
    ConversationsSpec,
    MergeSpec,
    PostTrainingRun,
    PreferencesSpec,
    SupervisedSpec,
)
from smolmake.graph.specs.runs import DeviceRun
from smolmake.recipe.posttraining import Apo, Conversations, Merge, PostTraining, Preferences, SupervisedTraining
from smolmake.recipe.runtime import Layout
from smolmake.recipe.schema import Recipe


def add_post_training(steps: Steps, recipe: Recipe) -> None:
    """Each from the step before."""
    if recipe.mid_training is not None:
        _supervised(steps, recipe, "mid", "mid_training", recipe.mid_training)
    if recipe.sft is not None:
        _supervised(steps, recipe, "sft", "sft", recipe.sft)
    pairs = _preferences(steps, recipe, recipe.preferences) if recipe.preferences is not None else None
    if recipe.apo is not None:
        _alignment(steps, recipe, recipe.apo, pairs)
    if recipe.merge is not None:
        _merge(steps, recipe.merge)


def _supervised(steps: Steps, recipe: Recipe, name: str, key: str, section: SupervisedTraining) -> None:
    inputs = {"parent": list(steps.checkpoints.values())[-1]}
    spec = SupervisedSpec(
        training=section,
        seed=_seed(section, recipe),
        loss=section.loss,
        packing=section.packing,
        template=_template(steps, section),
        data=_conversations(steps, section.data, inputs),
    )
    run = _training_run(recipe, name)
    steps.checkpoints[name] = steps.add("posttraining", name, spec, inputs, name, (key, "seed"), run)


def _preferences(steps: Steps, recipe: Recipe, section: Preferences) -> Step:
    """Pairs, answered on one device."""
    inputs = {"strong": steps.checkpoints[section.strong], "weak": steps.checkpoints[section.weak]}
    spec = PreferencesSpec(
        prompts=dataset_spec(steps, section.prompts, inputs, "prompts"),
        on_error=section.prompts.on_error,
        template=template_text(steps, recipe),
        max_new_tokens=section.max_new_tokens,
        temperature=section.temperature,
        seed=recipe.seed,
    )
    layout = _layout(recipe, "apo")
    one = Layout(gpus_per_node=min(layout.gpus_per_node, 1), mfu=layout.mfu)
    run = DeviceRun(layout=one, device=recipe.runtime.device, threads=recipe.runtime.threads_posttraining)
    return steps.add("preferences", "pairs", spec, inputs, "apo", ("preferences", "seed", *template_keys(recipe)), run)


def _alignment(steps: Steps, recipe: Recipe, section: Apo, pairs: Step | None) -> None:
    """APO, or a soup: the mean of several runs that differ in their seed alone."""
    runs: dict[str, Step] = {}
    for number in range(section.soup):
        inputs = {"parent": steps.checkpoints["sft"]} | ({"pairs": pairs} if pairs is not None else {})
        data = _conversations(steps, section.data, inputs)
        spec = AlignmentSpec(training=section, seed=_seed(section, recipe) + number, beta=section.beta, data=data)
        name = "apo" if section.soup == 1 else f"apo-{number + 1}"
        run = _training_run(recipe, "apo")
        runs[name] = steps.add("alignment", name, spec, inputs, "apo", ("apo", "seed"), run)
    checkpoint = runs.get("apo")
    if checkpoint is None:
        inputs = {f"model:{name}": step for name, step in runs.items()} | {"tokenizer": next(iter(runs.values()))}
        soup = MergeSpec(weights=dict.fromkeys(runs, 1 / len(runs)))
        checkpoint = steps.add("merge", "apo", soup, inputs, "apo", ("apo.soup",))
    steps.checkpoints["apo"] = checkpoint


def _merge(steps: Steps, section: Merge) -> None:
    """The last model: a weighted mean of earlier ones."""
    total = math.fsum(section.weights.values())
    weights = {name: weight / total for name, weight in section.weights.items() if weight > 0}
    inputs = {f"model:{name}": steps.checkpoints[name] for name in weights}
    inputs["tokenizer"] = list(steps.checkpoints.values())[-1]
    steps.checkpoints["merged"] = steps.add("merge", "merged", MergeSpec(weights=weights), inputs, "merge", ("merge",))


def _conversations(
    steps: Steps, data: dict[str, Conversations], inputs: dict[str, Step]
) -> dict[str, ConversationsSpec]:
    return {
        name: ConversationsSpec(
            files=dataset_spec(steps, files, inputs, f"data:{name}"),
            fraction=files.fraction,
            on_error=files.on_error,
            may_lose=sorted(files.may_lose),
        )
        for name, files in data.items()
    }


def _seed(section: PostTraining, recipe: Recipe) -> int:
    return recipe.seed if section.seed is None else section.seed


def _layout(recipe: Recipe, stage: str) -> Layout:
    return recipe.runtime.layouts.get(stage) or Layout()


def _training_run(recipe: Recipe, stage: str) -> PostTrainingRun:
    run = recipe.runtime
    return PostTrainingRun(
        layout=_layout(recipe, stage), device=run.device, threads=run.threads_posttraining, micro_batch=run.micro_batch
    )


def _template(steps: Steps, section: SupervisedTraining) -> str:
    return (steps.root / "config" / "templates" / section.chat_template).read_text()


def template_text(steps: Steps, recipe: Recipe) -> str | None:
    """The chat template that prompts are rendered with: the SFT step's, else mid-training's."""
    section = recipe.sft or recipe.mid_training
    return None if section is None else _template(steps, section)


def template_keys(recipe: Recipe) -> tuple[str, ...]:
    """Where the recipe says which that is."""
    sections = {"sft": recipe.sft, "mid_training": recipe.mid_training}
    return tuple(f"{name}.chat_template" for name, section in sections.items() if section is not None)[:1]
