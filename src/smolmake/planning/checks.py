"""What can be known to be wrong before anything runs and needs arithmetic or the files that a recipe adopts.

A source that would be repeated far more often than its cap is told, as the sizes of its files let one guess: the step
`epochs` counts exactly, but only after cleaning and tokenizing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from smolmake.errors import UserError
from smolmake.execution.content_hash import content_digest
from smolmake.execution.step import Steps
from smolmake.graph.specs.data import EpochsSpec, MixtureSpec
from smolmake.hardware.fit import fit
from smolmake.hardware.gpus import gpu_kind
from smolmake.hardware.memory import MemoryLayout
from smolmake.model.counts import count_parameters
from smolmake.planning.cost import shape_of, source_tokens
from smolmake.planning.suite_contexts import check_contexts
from smolmake.planning.task_files import check_task_files
from smolmake.planning.task_names import check_task_names
from smolmake.recipe.posttraining import RowFiles
from smolmake.recipe.runtime import Layout
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Adopted
from smolmake.recipe.validate import all_files

if TYPE_CHECKING:
    from smolmake.planning.chat_rows import CheckedRows

POST_TRAINING = {"mid": "mid_training", "sft": "sft", "apo": "apo"}  # stages and their sections of the recipe
FAR = 2.0  # times a repeat cap: the estimate of the tokens is no better than that


def check_plan(recipe: Recipe, file: Path, root: Path) -> None:
    """Raise UserError for an unknown GPU, a missed parameter count, a layout that cannot be, a suite that asks for
    more than its checkpoints read, a task that the harness does not have or cannot load, a task file that it reads
    otherwise, data that is not what the recipe says, a wrong digest."""
    try:
        gpu_kind(recipe.cost.gpu)
    except UserError as error:
        raise UserError(error.what, file=file, key="cost.gpu", value=recipe.cost.gpu, remedy=error.remedy) from None
    _check_parameters(recipe, file)
    _check_layouts(recipe, file)
    _check_memory(recipe, file)
    check_contexts(recipe, file)
    check_task_names(recipe, root)
    check_task_files(recipe, root)
    if any(files.path is not None for _, files in all_files(recipe)):
        from smolmake.planning.first_rows import check_first_rows  # it loads Arrow, which takes its time

        check_first_rows(recipe, root)
    checked_rows(recipe, root)
    for key, adopted in _adopted(recipe):
        _check_adopted(adopted, key, file, root)


def checked_rows(recipe: Recipe, root: Path) -> dict[str, CheckedRows]:
    """What was found of the rows of conversations, pairs and prompts that lie at a path, by the dataset's key."""
    if not any(isinstance(files, RowFiles) and files.path is not None for _, files in all_files(recipe)):
        return {}
    from smolmake.planning.chat_rows import check_chat_rows  # it loads Arrow too

    return check_chat_rows(recipe, root)


def _check_parameters(recipe: Recipe, file: Path) -> None:
    shape, model = shape_of(recipe), recipe.model
    if shape is None or model is None or model.parameters is None:
        return
    count = count_parameters(shape).total
    miss = abs(count - model.parameters) / model.parameters
    if miss > model.parameters_tolerance:
        raise UserError(
            f"the model has {count:,} parameters, {miss:.1%} from its target of {model.parameters:,}",
            file=file, key="model.parameters", value=model.parameters,
            remedy=f"change the model's shape or the vocabulary, or allow `parameters_tolerance: {miss + 5e-4:.3f}`",
        )  # fmt: skip


def _check_layouts(recipe: Recipe, file: Path) -> None:
    """Raise UserError for a layout whose devices do not share a batch evenly."""
    batches = {}
    if recipe.pretraining is not None:
        batches = {stage.name: recipe.pretraining.global_batch_size for stage in recipe.pretraining.stages}
        batches["pretraining"] = recipe.pretraining.global_batch_size
    batches |= {stage.name: stage.global_batch_size for stage in recipe.long_context}
    sections = {name: getattr(recipe, key) for name, key in POST_TRAINING.items()}
    batches |= {name: section.global_batch_size for name, section in sections.items() if section is not None}
    for name, layout in recipe.runtime.layouts.items():
        key = f"runtime.layouts.{name}"
        if name in POST_TRAINING:
            _check_post_training(layout, file, key)
        if layout.gpus and layout.gpus % layout.context_parallel:
            raise UserError(
                f"{layout.gpus} GPUs do not divide into groups of {layout.context_parallel}",
                file=file, key=f"{key}.context_parallel", value=layout.context_parallel,
                remedy="give a divisor of nodes x gpus_per_node",
            )  # fmt: skip
        batch, ranks = batches.get(name), max(layout.gpus // layout.context_parallel, 1)
        if batch is not None and batch % (ranks * (layout.micro_batch or 1)):
            raise UserError(
                f"a batch of {batch} does not divide into {ranks} devices with {layout.micro_batch or 1} each",
                file=file, key=f"{key}.micro_batch", value=layout.micro_batch,
                remedy="change micro_batch, nodes or gpus_per_node so that their product divides the batch",
            )  # fmt: skip


def _check_post_training(layout: Layout, file: Path, key: str) -> None:
    """Raise UserError for what TRL and DeepSpeed do not have here."""
    if layout.context_parallel > 1:
        raise UserError(
            "post-training gives every device whole rows",
            file=file, key=f"{key}.context_parallel", value=layout.context_parallel,
            remedy="leave it out; zero3 saves memory too",
        )  # fmt: skip
    if layout.strategy == "hsdp":
        raise UserError(
            "post-training cannot shard within nodes alone",
            file=file, key=f"{key}.strategy", value="hsdp", remedy="use zero3, zero2, zero1, fsdp or ddp",
        )  # fmt: skip


def _check_memory(recipe: Recipe, file: Path) -> None:
    """Raise UserError if a stage's training would not fit into its GPUs.

    The trainer has float32 master weights, takes the loss in chunks and masks documents without a dense mask.
    """
    shape, pretraining, run = shape_of(recipe), recipe.pretraining, recipe.runtime
    if shape is None or pretraining is None:
        return
    lengths = {stage.name: pretraining.sequence_length for stage in pretraining.stages}
    lengths |= {stage.name: stage.sequence_length for stage in recipe.long_context}
    for name, length in lengths.items():
        layout = run.layout(name)
        if not layout.gpus:
            continue
        key = f"runtime.layouts.{run.layout_name(name)}"
        if length % layout.context_parallel:
            raise UserError(
                f"{name}: {length} tokens do not divide over the devices that share a sequence",
                file=file, key=f"{key}.context_parallel", value=layout.context_parallel,
                remedy="give a divisor of sequence_length",
            )  # fmt: skip
        needed = MemoryLayout(
            micro_batch=layout.micro_batch or run.micro_batch,
            sequence_length=length,
            sharding="zero3" if layout.strategy == "fsdp" or layout.strategy == "hsdp" else layout.strategy,
            shard_group=layout.gpus_per_node if layout.strategy == "hsdp" else layout.gpus,
            context_parallel=layout.context_parallel,
            checkpointing=layout.activation_checkpointing,
            precision=pretraining.precision,
            optimizer=pretraining.optimizer.name,
        )
        found = fit(shape, needed, gpu_kind(recipe.cost.gpu).memory)
        if not found.fits:
            raise UserError(
                f"{name} would not fit into the memory of a {recipe.cost.gpu}: {found.reason}",
                file=file, key=key, remedy=found.remedy or "take more or larger GPUs",
            )  # fmt: skip


def _adopted(recipe: Recipe) -> Iterator[tuple[str, Adopted]]:
    yield from ((f"sources.{name}.shards", s.shards) for name, s in recipe.sources.items() if s.shards is not None)
    models = {"base": recipe.base} | {f"evaluation.models.{n}": m for n, m in recipe.evaluation.models.items()}
    yield from ((f"{key}.adopt", model.adopt) for key, model in models.items() if model is not None and model.adopt)


def _check_adopted(adopted: Adopted, key: str, file: Path, root: Path) -> None:
    folder = root / adopted.path
    if not folder.is_dir():
        raise UserError(
            "there is no such folder to adopt", file=file, key=f"{key}.path", value=adopted.path,
            remedy="the path is taken from the project's root; check its spelling",
        )  # fmt: skip
    found = content_digest(adopted.path, root)
    if found != adopted.digest:
        raise UserError(
            "what lies there is not what the recipe adopts: its digest differs",
            file=file, key=f"{key}.digest", value=f"{adopted.digest[:16]}..., found {found[:16]}...",
            remedy=f"bring back the files that {adopted.path} had, or adopt what it has now: smolmake adopt"
            f" FOLDER={adopted.path}",
        )  # fmt: skip


def repeat_warnings(recipe: Recipe, steps: Steps, running: set[str]) -> list[str]:
    """A line for each source that would be seen more than FAR times its cap; none once they are counted."""
    told: dict[str, str] = {}
    for source, stage, epochs in _estimated_epochs(recipe, steps, running):
        cap = recipe.sources[source].max_epochs
        if epochs > FAR * cap:
            told[source] = (
                f"the source `{source}` would be seen about {epochs:,.0f} times by the end of {stage}, and its repeat"
                f" cap (sources.{source}.max_epochs) is {cap:g}: the step `epochs` is likely to refuse it. Give more"
                " text, train fewer steps, lower its weight, or raise the cap"
            )
    return list(told.values())


def _estimated_epochs(recipe: Recipe, steps: Steps, running: set[str]) -> Iterator[tuple[str, str, float]]:
    """Source, stage and epochs by the end of the stage (roughly, before cleaning), where tokens are known."""
    tokens = {
        name: source.tokens if source.shards is not None else source_tokens(source, steps.root)
        for name, source in recipe.sources.items()
    }
    for epochs in steps.of_kind("epochs"):
        seen: dict[str, float] = {}
        for stage in epochs.spec_as(EpochsSpec).stages if epochs.key in running else ():
            mixture = epochs.inputs[f"mixture:{stage.stage}"].spec_as(MixtureSpec)
            if mixture.before_sequences is None:  # a long-context extension counts from 0
                seen = {}
            for name, weight in mixture.weights.items():
                seen[name] = seen.get(name, 0.0) + weight * stage.sequences * mixture.sequence_length
                if available := tokens[name]:
                    yield name, stage.stage, seen[name] / available
