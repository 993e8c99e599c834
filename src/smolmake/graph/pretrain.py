"""The steps of pretraining: mixtures, the count of epochs over them, checks of machines, and the segments."""

from __future__ import annotations

import math
from collections.abc import Sequence

from smolmake.execution.step import Step, Steps
from smolmake.graph.data import add_packings, packing_key
from smolmake.graph.specs.data import EpochsSpec, MixtureSpec, RepeatCap, StageSequences
from smolmake.graph.specs.pretrain import PreflightRun, PreflightSpec, SegmentRun, SegmentSpec
from smolmake.recipe.pretraining import LongContext, Pretraining, Stage
from smolmake.recipe.runtime import Layout, Runtime
from smolmake.recipe.schedule import SchedulePiece, batch_at, batch_pieces, batches_within, schedule_pieces, within
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
    parent, start = steps.checkpoints.get("base"), 0
    pieces = schedule_pieces(pretraining.schedule, sum(stage.steps for stage in pretraining.stages))
    for stage in pretraining.stages:
        inputs = {"mixture": mixtures[stage.name], "tokenizer": tokenizer}
        parent = _segments(steps, recipe, stage, start, pieces, inputs, parent, True)
        start += stage.steps
    for extension in recipe.long_context:
        inputs = {"mixture": mixtures[extension.name], "tokenizer": tokenizer}
        pieces = schedule_pieces(extension.schedule, extension.steps)
        fresh = extension.fresh_optimizer or (parent is not None and parent.kind == "adopted")
        parent = _segments(steps, recipe, extension, 0, pieces, inputs, parent, fresh)


def _mixtures(steps: Steps, recipe: Recipe, pretraining: Pretraining, shards: dict[str, Step]) -> dict[str, Step]:
    """One mixture per stage, each going on where the one before stops, and the step that counts the epochs of all."""
    mixtures, counted = dict[str, Step](), list[StageSequences]()
    before: tuple[Step, int] | None = None
    stages: list[tuple[str, Stage]] = [("pretraining.stages", stage) for stage in pretraining.stages]
    stages += [("long_context", stage) for stage in recipe.long_context]
    for section, stage in stages:
        extension = stage if isinstance(stage, LongContext) else None
        shaped = extension or pretraining
        if extension is not None:
            before = None
        total = math.fsum(stage.mixture.values())
        weights = {name: weight / total for name, weight in sorted(stage.mixture.items()) if weight > 0}
        inputs = {f"shards:{name}": shards[name] for name in weights}
        inputs |= add_packings(steps, recipe, stage, inputs)
        keys = [f"{section}.{stage.name}.mixture", "pretraining.sequence_length", "seed", packing_key(stage)]
        if before is not None:
            inputs["before"] = before[0]
            keys += [f"{section}.{before[0].name}.steps", "pretraining.global_batch_size", "pretraining.batch_warmup"]
        spec = MixtureSpec(
            weights=weights,
            sequence_length=shaped.sequence_length,
            seed=recipe.seed,
            label=extension.name if extension is not None else "pretraining",
            before_sequences=before[1] if before is not None else None,
        )
        mixtures[stage.name] = steps.add("mixture", stage.name, spec, inputs, "data", tuple(keys))
        sequences = stage.steps * shaped.global_batch_size
        if stage is pretraining.stages[0] and pretraining.batch_warmup:
            sequences = batch_at(batch_pieces(pretraining), stage.steps)[1]
        before = (mixtures[stage.name], sequences)
        counted.append(StageSequences(stage=stage.name, sequences=sequences, capped=extension is None))
    keys = [f"{section}.{stage.name}.steps" for section, stage in stages]
    _epochs(steps, recipe, counted, mixtures, (*keys, "pretraining.global_batch_size", "pretraining.batch_warmup"))
    return mixtures


def _epochs(
    steps: Steps, recipe: Recipe, stages: list[StageSequences], mixtures: dict[str, Step], keys: tuple[str, ...]
) -> None:
    """The step that counts how often each source is seen."""
    caps = {
        name: RepeatCap(max_epochs=source.max_epochs, domain=source.domain, language=source.language)
        for name, source in recipe.sources.items()
    }
    of_sources = [f"sources.{name}.{key}" for name in caps for key in ("max_epochs", "domain", "language")]
    inputs = {f"mixture:{name}": step for name, step in mixtures.items()}
    spec = EpochsSpec(stages=stages, sources=caps)
    steps.add("epochs", recipe.name, spec, inputs, "data", (*of_sources, *keys))


def _preflights(steps: Steps, recipe: Recipe, pretraining: Pretraining) -> None:
    """Checks of the machines of each layout. No result depends on them, but segments wait for them."""
    run, lengths = recipe.runtime, {stage.name: pretraining.sequence_length for stage in pretraining.stages}
    lengths |= {stage.name: stage.sequence_length for stage in recipe.long_context}
    if recipe.model is None or recipe.tokenizer is None or run.preflight.when == "never":
        return
    for stage, length in lengths.items():
        layout, name = run.layout(stage), run.layout_name(stage)
        if f"preflight/{name}" in {step.label for step in steps.all.values()}:
            continue
        if not layout.gpus and run.preflight.when != "always":
            continue
        spec = PreflightSpec(
            layout=layout, model=recipe.model, rope_theta=recipe.model.rope_theta,
            vocab_size=recipe.tokenizer.vocab_size, optimizer=pretraining.optimizer, precision=pretraining.precision,
            sequence_length=length,
        )  # fmt: skip
        keys = (f"runtime.layouts.{name}", "model", "pretraining.optimizer", "pretraining.precision")
        how = PreflightRun(
            threads=run.threads, layout=layout, device=run.device, limits=run.preflight,
            mfu=layout.mfu or recipe.cost.mfu, cpu_flops=recipe.cost.cpu_flops,
            recovery_every=run.recovery_every, scratch=run.scratch,
        )  # fmt: skip
        steps.add("preflight", name, spec, {}, "preflight", keys, how)


def _segments(
    steps: Steps,
    recipe: Recipe,
    stage: Stage,
    stage_start: int,
    pieces: list[SchedulePiece],
    inputs: dict[str, Step],
    parent: Step | None,
    fresh: bool,
) -> Step:
    """A stage's segments; the spec of each holds only what matters within its span."""
    pretraining, shaped = recipe.pretraining, stage if isinstance(stage, LongContext) else recipe.pretraining
    assert pretraining is not None and shaped is not None
    keys = _segment_keys(stage)
    length = shaped.segment_steps or pretraining.segment_steps
    layout = recipe.runtime.layout(stage.name)
    rows = micro_batch(
        layout.micro_batch or recipe.runtime.micro_batch, pretraining.sequence_length, shaped.sequence_length
    )
    for start in range(stage_start, stage_start + stage.steps, length):
        end = min(start + length, stage_start + stage.steps)
        batches = None
        if pretraining.batch_warmup and stage is pretraining.stages[0]:
            batches = tuple(batches_within(batch_pieces(pretraining), start, end))
        spec = SegmentSpec(
            start=start, end=end, stage_start=stage_start, schedule=tuple(within(pieces, start, end)), batches=batches,
            global_batch_size=shaped.global_batch_size, sequence_length=shaped.sequence_length,
            rope_theta=_rope_theta(recipe, stage), optimizer=pretraining.optimizer,
            fresh_optimizer=fresh and start == 0, precision=pretraining.precision, z_loss=pretraining.z_loss,
            guard=pretraining.guard, model=recipe.model if parent is None else None,
            seed=recipe.seed if parent is None else None,
        )  # fmt: skip
        how = segment_run(
            recipe.runtime, layout, rows, milestones(pretraining.milestone_steps, start, end),
            recipe.runtime.layout_name(stage.name),
        )  # fmt: skip
        parent = steps.add(
            "segment", f"{stage.name}-{start}-{end}", spec,
            inputs if parent is None else inputs | {"parent": parent}, stage.name,
            keys if parent is not None else (*keys, "model", "seed"), how,
        )  # fmt: skip
    assert parent is not None
    steps.checkpoints[stage.name] = parent
    return parent


def _segment_keys(stage: Stage) -> tuple[str, ...]:
    """The places of the recipe that a stage's segments are made from."""
    long = isinstance(stage, LongContext)
    section = f"long_context.{stage.name}" if long else "pretraining"
    steps = f"long_context.{stage.name}.steps" if long else f"pretraining.stages.{stage.name}.steps"
    own = tuple(f"{section}.{key}" for key in ("schedule", "sequence_length", "global_batch_size"))
    own += (f"{section}.rope_theta", f"{section}.fresh_optimizer") if long else ("model.rope_theta",)
    return (*own, *SEGMENT_KEYS, steps)


def _rope_theta(recipe: Recipe, stage: Stage) -> float | None:
    """A stage's RoPE base; None: the base model's."""
    if isinstance(stage, LongContext):
        return stage.rope_theta
    return None if recipe.model is None else recipe.model.rope_theta


def milestones(every: int | None, start: int, end: int) -> list[int]:
    """The steps strictly inside a segment at which weights are kept: multiples of `every`."""
    return [] if every is None else list(range((start // every + 1) * every, end, every))


def micro_batch(rows: int, of_length: int, length: int) -> int:
    """Sequences per forward pass: `rows` of them at one length, fewer of longer ones."""
    return max(1, rows * of_length // length)


def segment_run(
    run: Runtime, layout: Layout, micro_batch: int | None = None, milestones: Sequence[int] = (), preflight: str = ""
) -> SegmentRun:
    """How a segment runs, by the recipe's `runtime`."""
    shared = {name: getattr(run, name) for name in SegmentRun.model_fields if name in Runtime.model_fields}
    own = {"layout": layout, "micro_batch": micro_batch or run.micro_batch, "milestones": tuple(milestones)}
    return SegmentRun(**shared | own | {"preflight": preflight})
