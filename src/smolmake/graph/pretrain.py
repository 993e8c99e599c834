"""The steps of pretraining: mixtures, the count of epochs over them, checks of machines, and the segments."""

from __future__ import annotations

import math
from typing import Any

from smolmake.data.batches import batch_at, batch_pieces, batches_within
from smolmake.execution.step import Step, Steps
from smolmake.graph.data import add_packings, packing_key
from smolmake.recipe.pretraining import LongContext, Pretraining, Stage
from smolmake.recipe.schedule import Piece, schedule_pieces, within
from smolmake.recipe.schema import Recipe

SEGMENT_KEYS = tuple(
    f"pretraining.{key}" for key in ("optimizer", "segment_steps", "precision", "z_loss", "guard", "batch_warmup")
)


def add_pretraining(
    steps: Steps, recipe: Recipe, pretraining: Pretraining, tokenizer: Step, shards: dict[str, Step]
) -> None:
    """Mixtures, the epochs that they come to, and the segments of stages 1 to 3 and of the long-context extensions."""
    mixtures = _mixtures(steps, recipe, pretraining, shards)
    _preflights(steps, recipe, pretraining)
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
    """One mixture per stage, each going on where the one before stops, and the step that counts the epochs of all."""
    mixtures, counted = dict[str, Step](), list[dict[str, Any]]()
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
        inputs |= add_packings(steps, recipe, stage, inputs)
        keys: tuple[str, ...] = (f"{section}.{stage.name}.mixture", "pretraining.sequence_length", "seed")
        keys += (packing_key(stage),)
        if before is not None:
            inputs["before"], spec["before_sequences"] = before
            keys += (f"{section}.{before[0].name}.steps", "pretraining.global_batch", "pretraining.batch_warmup")
        mixtures[stage.name] = steps.add("mixture", stage.name, spec, inputs, "data", keys)
        sequences = stage.steps * shaped.global_batch
        if stage is pretraining.stages[0] and pretraining.batch_warmup:
            sequences = batch_at(batch_pieces(pretraining), stage.steps)[1]
        before = (mixtures[stage.name], sequences)
        capped = not isinstance(stage, LongContext)
        counted.append({"stage": stage.name, "sequences": sequences, "capped": capped})
    about_sources = {
        name: {"max_epochs": source.max_epochs, "domain": source.domain, "language": source.language}
        for name, source in recipe.sources.items()
    }
    told = tuple(f"sources.{name}.{key}" for name in about_sources for key in ("max_epochs", "domain", "language"))
    told += tuple(f"{section}.{stage.name}.steps" for section, stage in stages)
    told += ("pretraining.global_batch", "pretraining.batch_warmup")
    inputs_of_epochs = {f"mixture:{name}": step for name, step in mixtures.items()}
    steps.add("epochs", recipe.name, {"stages": counted, "sources": about_sources}, inputs_of_epochs, "data", told)
    return mixtures


def _preflights(steps: Steps, recipe: Recipe, pretraining: Pretraining) -> None:
    """Checks of the machines of each layout. No result depends on them, but segments wait for them."""
    run, lengths = recipe.run, {stage.name: pretraining.sequence_length for stage in pretraining.stages}
    lengths |= {stage.name: stage.sequence_length for stage in recipe.long_context}
    if recipe.model is None or recipe.tokenizer is None or run.preflight.when == "never":
        return
    for stage, length in lengths.items():
        layout, name = run.layout(stage), run.layout_name(stage)
        if f"preflight/{name}" in {step.label for step in steps.all.values()}:
            continue
        if not layout.gpus and run.preflight.when != "always":
            continue
        spec = {
            "layout": layout.model_dump(exclude={"mfu", "micro_batch"}),
            "model": recipe.model.model_dump(exclude={"parameters", "parameters_tolerance"}),
            "vocab_size": recipe.tokenizer.vocab_size,
            "optimizer": pretraining.optimizer.used(),
            "precision": pretraining.precision,
            "sequence_length": length,
        }
        keys = (f"run.layouts.{name}", "model", "pretraining.optimizer", "pretraining.precision")
        more = {"mfu": layout.mfu or recipe.compute.mfu, "cpu_flops": recipe.compute.cpu_flops}
        how = run.model_dump(exclude={"layouts"}) | {"layout": layout.model_dump()}
        how["launcher"] = layout.launcher(run.threads)
        steps.add("preflight", name, spec, {}, "preflight", keys, **how, **more)


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
            "optimizer": pretraining.optimizer.used(),
            "fresh_optimizer": fresh and start == 0,
            "precision": pretraining.precision,
            "z_loss": pretraining.z_loss,
            "guard": None if pretraining.guard is None else pretraining.guard.model_dump(exclude_none=True),
            **shape,
        }
        section = "long_context" if isinstance(stage, LongContext) else "pretraining.stages"
        inputs = {"mixture": mixtures[stage.name], "tokenizer": tokenizer}
        told = (*keys, *SEGMENT_KEYS, f"{section}.{stage.name}.steps")
        if pretraining.batch_warmup and stage is pretraining.stages[0]:
            spec["batches"] = batches_within(batch_pieces(pretraining), start, end)
        if parent is None:
            assert recipe.model is not None
            # The count that it must come to is checked before the start: it is no part of any result.
            spec["model"] = recipe.model.model_dump(exclude={"rope_theta", "parameters", "parameters_tolerance"})
            spec["seed"] = recipe.seed
            told += ("model", "seed")
        else:
            inputs["parent"] = parent
        layout = recipe.run.layout(stage.name)
        run = recipe.run.model_dump(exclude={"layouts"}) | {
            "sequences_per_forward": pretraining.sequence_length,
            "layout": layout.model_dump(),
            "launcher": layout.launcher(recipe.run.threads),
            "preflight": recipe.run.layout_name(stage.name),
            "milestones": milestones(pretraining.milestone_steps, start, end),
        }
        parent = steps.add("segment", f"{stage.name}-{start}-{end}", spec, inputs, stage.name, told, **run)
    assert parent is not None
    steps.checkpoints[stage.name] = parent
    return parent


def milestones(every: int | None, start: int, end: int) -> list[int]:
    """The steps strictly inside a segment at which weights are kept: multiples of `every`."""
    return [] if every is None else list(range((start // every + 1) * every, end, every))
