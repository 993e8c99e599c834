"""The steps of pretraining: mixtures, the count of epochs over them, checks of machines, and the segments."""

from __future__ import annotations

import math
from collections.abc import Sequence

from smolmake.execution.step import Step, Steps
from smolmake.graph.data import add_packings, packing_keys, shaped_by
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
        keys = [f"{section}.{stage.name}.mixture", f"{shaped_by(stage)}.sequence_length", "seed", *packing_keys(stage)]
        if before is not None:
            inputs["before"] = before[0]
            keys += [f"{section}.{before[0].name}.steps", "pretraining.global_batch_size", "pretraining.batch_warmup"]
        spec = MixtureSpec(
            weights=weights,
            sequence_length=shaped.sequence_length,
            seed=recipe.seed,
            # By its place: a mixture's order is drawn for this, so that another name would be another order.
            label="pretraining" if extension is None else f"lc{recipe.long_context.index(extension) + 1}",
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
    steps: Steps, recipe: Recipe, stage: Stage, stage_start: int, pieces: list[SchedulePiece],
    inputs: dict[str, Step], parent: Step | None, fresh: bool,
) -> Step:  # fmt: skip
    """A stage's segments; the spec of each holds only what matters within its span."""
    assert recipe.pretraining is not None
    pretraining, run, model = recipe.pretraining, recipe.runtime, recipe.model
    extension = stage if isinstance(stage, LongContext) else None
    shaped, theta = extension or pretraining, model.rope_theta if model is not None else None  # None: the base's
    section, own = "pretraining", ["model.rope_theta", f"pretraining.stages.{stage.name}.steps"]
    if extension is not None:
        theta, section = extension.rope_theta, f"long_context.{stage.name}"
        own = [f"{section}.{key}" for key in ("rope_theta", "fresh_optimizer", "steps", "segment_steps")]
    keys = [f"{section}.{key}" for key in ("schedule", "sequence_length", "global_batch_size")]
    keys += [*SEGMENT_KEYS, *own]
    length, layout = shaped.segment_steps or pretraining.segment_steps, run.layout(stage.name)
    rows = micro_batch(layout.micro_batch or run.micro_batch, pretraining.sequence_length, shaped.sequence_length)
    for start in range(stage_start, stage_start + stage.steps, length):
        end = min(start + length, stage_start + stage.steps)
        batches = None
        if pretraining.batch_warmup and stage is pretraining.stages[0]:
            batches = tuple(batches_within(batch_pieces(pretraining), start, end))
        first = parent is None
        spec = SegmentSpec(
            start=start, end=end, stage_start=stage_start, schedule=tuple(within(pieces, start, end)), batches=batches,
            global_batch_size=shaped.global_batch_size, sequence_length=shaped.sequence_length, rope_theta=theta,
            optimizer=pretraining.optimizer, fresh_optimizer=fresh and start == 0, precision=pretraining.precision,
            z_loss=pretraining.z_loss, guard=pretraining.guard,
            model=model if first else None, seed=recipe.seed if first else None,
        )  # fmt: skip
        kept = milestones(pretraining.milestone_steps, start, end)
        how = segment_run(run, layout, rows, kept, run.layout_name(stage.name))
        parent = steps.add(
            "segment", f"{stage.name}-{start}-{end}", spec,
            inputs | ({} if parent is None else {"parent": parent}), stage.name,
            (*keys, *(("model", "seed") if first else ())), how,
        )  # fmt: skip
    assert parent is not None
    steps.checkpoints[stage.name] = parent
    return parent


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
