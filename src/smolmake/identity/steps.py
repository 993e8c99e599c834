"""The steps of a recipe up to the end of pretraining: for each its slice of the recipe, its inputs, and its id.

Read from top to bottom it is the pipeline. What is in a step's `spec` decides its identity; what is in `run` only
decides how it is executed. `identity/later_steps.py` goes on with post-training and evaluation.
"""

from __future__ import annotations

import contextlib
import math
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from smolmake.identity.content import content_digest
from smolmake.identity.later_steps import add_evaluations, add_post_training
from smolmake.identity.pins import read_pins
from smolmake.identity.step import Step, Steps
from smolmake.recipe.data import Adopted, Files
from smolmake.recipe.schema import Recipe
from smolmake.recipe.training import LongContext, Pretraining, Stage
from smolmake.train.schedule import Piece, schedule_pieces, within

TOY_SEED = 0
# The toy's English is taken from Python and from what these say of themselves, so their versions identify it.
TOY_PACKAGES = "accelerate datasets huggingface_hub lm_eval numpy pandas pydantic requests safetensors transformers trl"
PLACE_KEYS = ("path", "hub", "config", "split", "files", "revision", "toy", "format")


def build_steps(recipe: Recipe, root: Path) -> Steps:
    """All steps of a recipe."""
    steps = Steps(root, recipe_values(recipe), read_pins(recipe.name, root))
    if recipe.base is not None:
        steps.checkpoints["base"] = _adopt_model(steps, recipe)
    made = {name: source for name, source in recipe.sources.items() if source.shards is None}
    documents = {name: _documents(steps, recipe, name) for name in made}
    if recipe.pretraining is not None:
        tokenizer = _tokenizers(steps, recipe, documents)
        shards = {
            name: _adopt(steps, name, source.shards, f"sources.{name}.shards")
            if source.shards is not None
            else steps.add("shards", name, {}, {"documents": documents[name], "tokenizer": tokenizer}, "data")
            for name, source in recipe.sources.items()
        }
        _pretraining(steps, recipe, recipe.pretraining, tokenizer, shards)
    add_post_training(steps, recipe, place)
    add_evaluations(steps, recipe, documents, place)
    report_inputs = {step.key: step for step in steps.all.values()}
    about = {"title": recipe.title, "text": recipe.description}
    steps.add("report", recipe.name, about, report_inputs, "report", ("title", "description"))
    steps.check_pins()
    return steps


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe with defaults as nested mappings; stages are found by their name."""
    values = recipe.model_dump(mode="json")
    if values["pretraining"] is not None:
        values["pretraining"]["stages"] = {stage["name"]: stage for stage in values["pretraining"]["stages"]}
    values["long_context"] = {stage["name"]: stage for stage in values["long_context"]}
    return values


def place(steps: Steps, files: Files, inputs: dict[str, Step], role: str) -> dict[str, Any]:
    """Where a dataset lies, for a spec; a toy file adds the step that writes it to `inputs`."""
    if files.toy is not None:
        inputs[role] = steps.add("toyfiles", "toy", _toy_spec(), {}, "data")
        return {"toy": files.toy, "format": files.format}
    if files.hub is not None:
        return {key: getattr(files, key) for key in ("hub", "config", "split", "files", "revision", "format")}
    assert files.path is not None
    return {"path": files.path, "format": files.format, "content": content_digest(files.path, steps.root)}


@cache
def _toy_spec() -> dict[str, Any]:
    versions = {}
    for name in TOY_PACKAGES.split():
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"seed": TOY_SEED, "python": platform.python_version(), "packages": versions}


def _adopt(steps: Steps, name: str, adopted: Adopted, key: str) -> Step:
    """What exists already: its digest is its identity, wherever it lies."""
    return steps.add("adopted", name, {"digest": adopted.digest}, {}, "data", (key,), path=adopted.path)


def _adopt_model(steps: Steps, recipe: Recipe) -> Step:
    assert recipe.base is not None
    if recipe.base.adopt is not None:
        return _adopt(steps, "base", recipe.base.adopt, "base")
    spec = {"hub": recipe.base.hub, "revision": recipe.base.revision}
    return steps.add("adopted", "base", spec, {}, "data", ("base",))


def _documents(steps: Steps, recipe: Recipe, name: str) -> Step:
    source, inputs = recipe.sources[name], dict[str, Step]()
    spec: dict[str, Any] = {
        "files": place(steps, source, inputs, "files"),
        "text": source.text,
        "template": source.template,
        "where": source.where,
        "cleaning": recipe.cleaning.model_dump(),
    }
    if recipe.evaluation.data is not None:
        spec["tasks"] = place(steps, recipe.evaluation.data, inputs, "tasks")
    own = tuple(f"sources.{name}.{key}" for key in (*PLACE_KEYS, "text", "template", "where"))
    return steps.add("documents", name, spec, inputs, "data", (*own, "cleaning", "evaluation.data"))


def _tokenizers(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> Step:
    """The chosen tokenizer; its rivals and the analysis are steps beside it."""
    section, inputs = recipe.tokenizer, {f"documents:{name}": step for name, step in documents.items()}
    chosen: Step | None = None
    if section is None:
        chosen = steps.add("tokenizer", "given", {"from": "base"}, {"base": steps.checkpoints["base"]}, "tokenizer")
        sizes: list[int] = []
    elif section.hub is not None or section.path is not None:
        spec: dict[str, Any] = {"vocab_size": section.vocab_size}
        if section.path is not None:
            spec |= {"path": section.path, "content": content_digest(section.path, steps.root)}
        else:
            spec |= {"hub": section.hub, "revision": section.revision}
        keys = tuple(f"tokenizer.{key}" for key in ("hub", "revision", "path", "vocab_size"))
        chosen = steps.add("tokenizer", "given", spec, {}, "tokenizer", keys)
        sizes = section.compare
    else:
        sizes = [section.vocab_size, *section.compare]
    trained = [
        steps.add(
            "tokenizer",
            f"bpe-{size}",
            {"vocab_size": size, "characters": section.characters_per_source},
            inputs,
            "tokenizer",
            ("tokenizer",),
        )
        for size in dict.fromkeys(sizes)
        if section is not None
    ]
    candidates = [*([chosen] if chosen is not None else []), *trained]
    about = {
        name: {"language": recipe.sources[name].language, "domain": recipe.sources[name].domain} for name in documents
    }
    if documents:
        rivals = {f"tokenizer:{step.name}": step for step in candidates}
        told = tuple(f"sources.{name}.{key}" for name in about for key in ("language", "domain"))
        spec = {"chosen": candidates[0].name, "sources": about}
        steps.add("tokenizer_analysis", "analysis", spec, {**inputs, **rivals}, "tokenizer", (*told, "tokenizer"))
    return candidates[0]


def _pretraining(
    steps: Steps, recipe: Recipe, pretraining: Pretraining, tokenizer: Step, shards: dict[str, Step]
) -> None:
    """Mixtures, the ledger over them, and the segments of stages 1 to 3 and of the long-context extensions."""
    mixtures = _mixtures(steps, recipe, pretraining, shards)
    parent = steps.checkpoints.get("base")
    shape: dict[str, Any] = {
        "sequence_length": pretraining.sequence_length,
        "global_batch": pretraining.global_batch,
        "rope_theta": recipe.model.rope_theta if recipe.model is not None else None,  # None: the base model's
    }
    pieces = schedule_pieces(pretraining.schedule, sum(stage.steps for stage in pretraining.stages))
    start = 0
    for stage in pretraining.stages:
        keys: tuple[str, ...] = tuple(f"pretraining.{key}" for key in ("schedule", "sequence_length", "global_batch"))
        keys += ("model.rope_theta",)
        parent = _segments(steps, recipe, stage, start, pieces, shape, keys, tokenizer, mixtures, parent, True)
        start += stage.steps
    for extension in recipe.long_context:
        pieces = schedule_pieces(extension.schedule, extension.steps)
        shape = {
            "sequence_length": extension.sequence_length,
            "global_batch": extension.global_batch,
            "rope_theta": extension.rope_theta,
        }
        names = ("schedule", "sequence_length", "global_batch", "rope_theta", "fresh_optimizer")
        keys = tuple(f"long_context.{extension.name}.{name}" for name in names)
        fresh = extension.fresh_optimizer or (parent is not None and parent.kind == "adopted")
        parent = _segments(steps, recipe, extension, 0, pieces, shape, keys, tokenizer, mixtures, parent, fresh)


def _mixtures(steps: Steps, recipe: Recipe, pretraining: Pretraining, shards: dict[str, Step]) -> dict[str, Step]:
    """One mixture per stage, each going on where the one before stops, and the ledger that counts them all."""
    mixtures, ledger_stages = dict[str, Step](), list[dict[str, Any]]()
    before: tuple[Step, int] | None = None
    stages: list[tuple[str, Stage]] = [("pretraining.stages", stage) for stage in pretraining.stages]
    stages += [("long_context", stage) for stage in recipe.long_context]
    for section, stage in stages:
        shaped: LongContext | Pretraining = pretraining
        about: dict[str, Any] = {}
        if isinstance(stage, LongContext):
            shaped, about, before = stage, {"fresh": stage.name}, None
        total = math.fsum(stage.mixture.values())
        weights = {name: weight / total for name, weight in sorted(stage.mixture.items()) if weight > 0}
        spec: dict[str, Any] = {"weights": weights, "sequence_length": shaped.sequence_length, "seed": recipe.seed}
        spec |= about
        inputs = {f"shards:{name}": shards[name] for name in weights}
        keys: tuple[str, ...] = (f"{section}.{stage.name}.mixture", "pretraining.sequence_length", "seed")
        if before is not None:
            inputs["before"], spec["before_sequences"] = before
            keys += (f"{section}.{before[0].name}.steps", "pretraining.global_batch")
        mixtures[stage.name] = steps.add("mixture", stage.name, spec, inputs, "data", keys)
        before = (mixtures[stage.name], stage.steps * shaped.global_batch)
        capped = not isinstance(stage, LongContext)
        ledger_stages.append({"stage": stage.name, "sequences": stage.steps * shaped.global_batch, "capped": capped})
    about_sources = {
        name: {"max_epochs": source.max_epochs, "domain": source.domain, "language": source.language}
        for name, source in recipe.sources.items()
    }
    told = tuple(f"sources.{name}.{key}" for name in about_sources for key in ("max_epochs", "domain", "language"))
    told += tuple(f"{section}.{stage.name}.steps" for section, stage in stages) + ("pretraining.global_batch",)
    ledger_inputs = {f"mixture:{name}": step for name, step in mixtures.items()}
    steps.add("ledger", recipe.name, {"stages": ledger_stages, "sources": about_sources}, ledger_inputs, "data", told)
    return mixtures


def _segments(
    steps: Steps,
    recipe: Recipe,
    stage: Stage,
    stage_start: int,
    pieces: list[Piece],
    shape: dict[str, Any],
    keys: tuple[str, ...],
    tokenizer: Step,
    mixtures: dict[str, Step],
    parent: Step | None,
    fresh: bool,
) -> Step:
    """A stage's segments; the spec of each holds only what matters within its span."""
    pretraining = recipe.pretraining
    assert pretraining is not None
    end_of_stage = stage_start + stage.steps
    length = isinstance(stage, LongContext) and stage.segment_steps or pretraining.segment_steps
    for start in range(stage_start, end_of_stage, length):
        end = min(start + length, end_of_stage)
        spec: dict[str, Any] = {
            "start": start,
            "end": end,
            "stage_start": stage_start,
            "schedule": within(pieces, start, end),
            "optimizer": pretraining.optimizer.model_dump(),
            "fresh_optimizer": fresh and start == 0,
            **shape,
        }
        section = "long_context" if isinstance(stage, LongContext) else "pretraining.stages"
        inputs = {"mixture": mixtures[stage.name], "tokenizer": tokenizer}
        told = (*keys, "pretraining.optimizer", f"{section}.{stage.name}.steps", "pretraining.segment_steps")
        if parent is None:
            assert recipe.model is not None
            # The count that it must come to is checked before the start: it is no part of any result.
            spec["model"] = recipe.model.model_dump(exclude={"rope_theta", "parameters", "parameters_tolerance"})
            spec["seed"] = recipe.seed
            told += ("model", "seed")
        else:
            inputs["parent"] = parent
        layouts = recipe.run.layouts
        layout = layouts.get(stage.name) or layouts.get("pretraining")
        run = recipe.run.model_dump(exclude={"layouts"}) | {
            "sequences_per_forward": pretraining.sequence_length,
            "layout": layout.model_dump() if layout is not None else None,
            "milestones": milestones(pretraining.milestone_steps, start, end),
        }
        parent = steps.add("segment", f"{stage.name}-{start}-{end}", spec, inputs, stage.name, told, **run)
    assert parent is not None
    steps.checkpoints[stage.name] = parent
    return parent


def milestones(every: int | None, start: int, end: int) -> list[int]:
    """The steps strictly inside a segment at which weights are kept: multiples of `every`."""
    return [] if every is None else list(range((start // every + 1) * every, end, every))
