"""The graph of a recipe. Read from top to bottom, `build_steps` is the pipeline.

What is in a step's `spec` decides its identity; what is in its `run` only decides how it is executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolmake.execution.kinds import KINDS
from smolmake.execution.libraries import counted_versions
from smolmake.execution.other_names import other_names
from smolmake.execution.pins import read_pins
from smolmake.execution.step import Step, Steps
from smolmake.graph.data import add_documents, add_shards, add_tokenizers, adopt_base
from smolmake.graph.datasets import add_generated
from smolmake.graph.evaluate import add_evaluations
from smolmake.graph.posttrain import add_post_training
from smolmake.graph.pretrain import add_pretraining
from smolmake.graph.specs.evaluate import ReportSpec
from smolmake.recipe.schema import Recipe


def build_steps(recipe: Recipe, root: Path) -> Steps:
    """All steps of a recipe; what is finished under another name than the recipe has today is found there."""
    steps = _lay_out(recipe, root, {})
    kept_as = other_names(steps, recipe.name)
    return _lay_out(recipe, root, kept_as) if kept_as else steps


def _lay_out(recipe: Recipe, root: Path, kept_as: dict[str, str]) -> Steps:
    versions = {
        kind: counted_versions(libraries, f"library_versions.{kind}")
        for kind, libraries in recipe.library_versions.items()
    }
    steps = Steps(root, recipe_values(recipe), read_pins(recipe.name, root), versions, kept_as)
    adopt_base(steps, recipe)
    add_generated(steps, recipe)
    documents = add_documents(steps, recipe)
    if recipe.pretraining is not None:
        tokenizer = add_tokenizers(steps, recipe, documents)
        shards = add_shards(steps, recipe, documents, tokenizer)
        add_pretraining(steps, recipe, recipe.pretraining, tokenizer, shards)
    add_post_training(steps, recipe)
    add_evaluations(steps, recipe, documents)
    add_report(steps, recipe)
    steps.check_pins()
    return steps


def add_report(steps: Steps, recipe: Recipe) -> Step:
    """The report, which reads every step that a result depends on."""
    inputs = {f"step:{step.named_key}": step for step in steps.all.values() if not KINDS[step.kind].check}
    pins = {step.label: step.pin.reason for step in steps.all.values() if step.pin is not None}
    spec = ReportSpec(recipe=recipe.printed(), pins=pins or None)
    return steps.add("report", recipe.name, spec, inputs, "report", tuple(spec.recipe))


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe with defaults as nested mappings; stages are found by their name."""
    values = recipe.model_dump(mode="json")
    if values["pretraining"] is not None:
        values["pretraining"]["stages"] = {stage["name"]: stage for stage in values["pretraining"]["stages"]}
    values["long_context"] = {stage["name"]: stage for stage in values["long_context"]}
    return values
