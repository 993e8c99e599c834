"""What can be known to be wrong with a recipe before anything runs, beyond the form of its values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, get_args

import yaml

from smolmake.errors import UserError, did_you_mean
from smolmake.recipe.evaluation import Formulation, Suite
from smolmake.recipe.expectations import CHANCE
from smolmake.recipe.formats import list_data, without_ending
from smolmake.recipe.pretraining import LongContext, Pretraining, Schedule, Stage
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Files

MOST_CHECKPOINTS = 2_000  # as Snakemake lays them out in some seconds
CHAT_CHECKPOINTS = ("mid", "sft", "apo", "merged")
# What else is named beside stages: checkpoints, other stages of the graph, layouts, and what a score is compared with.
RESERVED = (
    "base", *CHAT_CHECKPOINTS, "merge", "data", "tokenizer", "preflight", "pretraining", "evaluation", "report", CHANCE,
)  # fmt: skip


def known_names(recipe: Recipe, root: Path) -> dict[str, Any]:
    """The context in which a recipe's names and files are looked up: what there is of each kind of `Named`."""
    sources, checkpoints = recipe.sources, checkpoint_names(recipe)
    measured = [*checkpoints, *(["merged"] if recipe.merge is not None else []), *recipe.evaluation.models]
    stages = [stage.name for _, stage in all_stages(recipe)]
    templates = (root / "config" / "templates").glob("[!._]*")
    return {
        "root": root,
        "source": list(sources),
        "source with text to clean": [name for name, source in sources.items() if source.is_read],
        "domain": sorted({source.domain for source in sources.values() if source.is_read}),
        "generated data": list(recipe.generated),
        "chat template": sorted(file.name for file in templates),
        "checkpoint": checkpoints,
        "checkpoint before APO": [name for name in checkpoints if name != "apo"],
        "checkpoint that is measured": measured,
        "checkpoint that is measured, nor `chance`": [*measured, CHANCE],
        "stage that trains": [name for name in checkpoints if name != "base"],
        "stage or step with a layout": ["pretraining", *stages, "mid", "sft", "apo", "evaluation"],
        "suite": list(recipe.evaluation.suites),
    }


def check_recipe(recipe: Recipe, root: Path) -> None:
    """Raise UserError for contradictions between the sections of a recipe."""
    _check_sections(recipe)
    _check_models(recipe)
    _check_repeats(recipe)
    _check_stages(recipe)
    _check_schedules(recipe)
    if recipe.pretraining is not None:
        _check_batch_warmup(recipe.pretraining)
        _check_checkpoints(recipe, recipe.pretraining)
    _check_posttraining(recipe)
    _check_scores(recipe, root)


def all_stages(recipe: Recipe) -> list[tuple[str, Stage]]:
    """Every stage of pretraining and long context with its key in the recipe."""
    stages = recipe.pretraining.stages if recipe.pretraining is not None else []
    pretraining = [(f"pretraining.stages.{i}", stage) for i, stage in enumerate(stages)]
    extensions = [(f"long_context.{i}", stage) for i, stage in enumerate(recipe.long_context)]
    return [*pretraining, *extensions]


def all_files(recipe: Recipe) -> Iterator[tuple[str, Files]]:
    """Every dataset that the recipe reads, with its key."""
    for name, source in recipe.sources.items():
        if source.is_read:
            yield f"sources.{name}", source
    for section, training in (("mid_training", recipe.mid_training), ("sft", recipe.sft), ("apo", recipe.apo)):
        for name, conversations in (training.data if training is not None else {}).items():
            yield f"{section}.data.{name}", conversations
    if recipe.preferences is not None:
        yield "preferences.prompts", recipe.preferences.prompts
    if recipe.evaluation.data is not None:
        yield "evaluation.data", recipe.evaluation.data
    for name, suite in recipe.evaluation.suites.items():
        if suite.questions is not None:
            yield f"evaluation.suites.{name}.questions", suite.questions


def checkpoint_names(recipe: Recipe) -> list[str]:
    """Names by which the recipe can refer to checkpoints: stages (their last segment) and post-training steps."""
    names = ["base"] if recipe.base is not None else []
    names += [stage.name for _, stage in all_stages(recipe)]
    steps = [("mid", recipe.mid_training), ("sft", recipe.sft), ("apo", recipe.apo)]
    return names + [name for name, section in steps if section is not None]


def _check_sections(recipe: Recipe) -> None:
    """What a recipe must have to start from nothing, or from a base model, or to measure models alone."""
    pretrains, from_base = recipe.pretraining is not None, recipe.base is not None
    trains = [recipe.mid_training, recipe.sft, recipe.preferences, recipe.apo, recipe.merge] != [None] * 5
    starts = from_base or (recipe.evaluation.models and not trains)
    needed = ["pretraining"] if not starts or recipe.long_context else []
    if pretrains:
        needed += ["sources"] if from_base else ["sources", "tokenizer", "model"]
    for key in needed:
        if not getattr(recipe, key):
            raise UserError(
                "a required section is missing", key=key,
                remedy=f"add `{key}` (see docs/reference/recipe.md); without pretraining a recipe starts from a model, "
                "`base`, or measures some: `evaluation.models`",
            )  # fmt: skip
    if from_base and recipe.model is not None and pretrains:
        raise UserError("a base model has its own architecture", key="model", remedy="remove `model`, or remove `base`")
    trains_tokenizer = recipe.tokenizer is not None and recipe.tokenizer.hub is recipe.tokenizer.path is None
    if trains_tokenizer and pretrains and all(source.shards for source in recipe.sources.values()):
        raise UserError(
            "there is no text to train a tokenizer on: all sources are adopted shards", key="tokenizer",
            remedy="name the tokenizer that the shards were made with: `path` or `hub`",
        )  # fmt: skip


def _check_models(recipe: Recipe) -> None:
    """A measured model has a name of its own: results and the report are found by it."""
    stages = [stage.name for _, stage in all_stages(recipe)]
    for name in recipe.evaluation.models:
        if name in (*RESERVED, *stages, *recipe.sources):
            raise UserError(
                "a model has the name of another part of the run", key=f"evaluation.models.{name}", value=name,
                remedy="give it another name, such as its own on the hub",
            )  # fmt: skip


def _check_repeats(recipe: Recipe) -> None:
    """Sources that drop each other's documents do not go in a circle."""
    try:
        TopologicalSorter({name: source.duplicates_of for name, source in recipe.sources.items()}).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        raise UserError(
            "sources drop each other's documents in a circle", key=f"sources.{circle[0]}.duplicates_of",
            value=" → ".join(circle), remedy="take one of them out: the source that is named keeps its documents",
        ) from None  # fmt: skip


def _check_stages(recipe: Recipe) -> None:
    start = 0
    for i, stage in enumerate(recipe.pretraining.stages if recipe.pretraining is not None else []):
        if stage.starts_at is not None and stage.starts_at != start:
            raise UserError(
                f"{stage.name} starts at step {start:,}, where the stages before it end: they"
                f" {'overlap' if start > stage.starts_at else 'leave a gap'}",
                key=f"pretraining.stages.{i}.starts_at", value=stage.starts_at,
                remedy="mend the steps of the stages before it, or remove `starts_at`",
            )  # fmt: skip
        start += stage.steps
    names: set[str] = set()
    for key, stage in all_stages(recipe):
        if stage.name in names or stage.name in RESERVED:
            of = "the name of another part of the run" if stage.name in RESERVED else "the name of another stage"
            remedy = "give it another name, such as stage1"
            raise UserError(f"a stage has {of}", key=f"{key}.name", value=stage.name, remedy=remedy)
        names.add(stage.name)
        _check_weights(stage.mixture, f"{key}.mixture", "mixture")
    length = recipe.pretraining.sequence_length if recipe.pretraining is not None else 0
    for i, extension in enumerate(recipe.long_context):
        if extension.sequence_length < length:
            raise UserError(
                f"an extension is shorter than the {length:,} tokens before it",
                key=f"long_context.{i}.sequence_length", value=extension.sequence_length,
                remedy=f"give {length} or more, or put the extensions in the order of their lengths",
            )  # fmt: skip
        length = extension.sequence_length


def _check_weights(weights: dict[str, float], key: str, of: str) -> None:
    if sum(weights.values()) <= 0:
        remedy = "give at least one of them a weight above 0"
        raise UserError(f"the {of}'s weights sum to nothing", key=key, value=weights, remedy=remedy)


def _check_schedules(recipe: Recipe) -> None:
    runs: list[tuple[str, Schedule, int]] = []
    if recipe.pretraining is not None:
        total = sum(stage.steps for stage in recipe.pretraining.stages)
        runs.append(("pretraining", recipe.pretraining.schedule, total))
    runs += [(f"long_context.{i}", stage.schedule, stage.steps) for i, stage in enumerate(recipe.long_context)]
    for key, schedule, steps in runs:
        tail = sum(part.steps for part in schedule.tail)
        if schedule.warmup_steps + (schedule.decay_steps or 0) + tail > steps:
            raise UserError(
                f"the decay would start before the warm-up ends: with the tail they exceed the run of {steps} steps",
                key=f"{key}.schedule",
                value=f"warmup_steps {schedule.warmup_steps}, decay_steps {schedule.decay_steps}, tail of {tail}",
                remedy="shorten one of them, or train longer",
            )  # fmt: skip
        floors = [("min_lr", schedule.min_lr), *((f"tail.{i}.lr", part.lr) for i, part in enumerate(schedule.tail))]
        for name, rate in floors:
            if rate > schedule.lr:
                raise UserError(
                    f"the learning rate would rise above its peak of {schedule.lr:g}", key=f"{key}.schedule.{name}",
                    value=rate, remedy="give no more than `lr`",
                )  # fmt: skip


def _check_batch_warmup(pretraining: Pretraining) -> None:
    for i, part in enumerate(pretraining.batch_warmup):
        if part.global_batch_size >= pretraining.global_batch_size:
            raise UserError(
                f"a batch of the warm-up is not smaller than the later ones of {pretraining.global_batch_size:,}",
                key=f"pretraining.batch_warmup.{i}.global_batch_size", value=part.global_batch_size,
                remedy="give a smaller one, or remove this part",
            )  # fmt: skip
    warmup, first = sum(part.steps for part in pretraining.batch_warmup), pretraining.stages[0]
    if warmup > first.steps:
        raise UserError(
            f"the batches' warm-up is longer than the first stage of {first.steps:,} steps",
            key="pretraining.batch_warmup", value=f"{warmup:,} steps", remedy="shorten it, or lengthen the stage",
        )  # fmt: skip


def _check_checkpoints(recipe: Recipe, pretraining: Pretraining) -> None:
    """Each segment and each milestone is a job, and those that evaluate it are others."""
    for key, every in (("segment_steps", pretraining.segment_steps), ("milestone_steps", pretraining.milestone_steps)):
        spans = [
            (stage.steps, (key == "segment_steps" and isinstance(stage, LongContext) and stage.segment_steps) or every)
            for _, stage in all_stages(recipe)
        ]
        count = sum(math.ceil(steps / span) for steps, span in spans if span is not None)
        if count > MOST_CHECKPOINTS:
            raise UserError(
                f"the stages would have {count:,} checkpoints, and a graph holds {MOST_CHECKPOINTS:,} at most",
                key=f"pretraining.{key}", value=every, remedy="make it larger, or check the steps of the stages",
            )  # fmt: skip


def _check_posttraining(recipe: Recipe) -> None:
    if recipe.merge is not None:
        _check_weights(recipe.merge.weights, "merge.weights", "merge")
    if recipe.apo is not None and (recipe.sft is None or not (recipe.preferences or recipe.apo.data)):
        remedy = "add the section `sft`, and `preferences` or `apo.data`"
        raise UserError("APO needs an SFT model and pairs", key="apo", remedy=remedy)


def _check_scores(recipe: Recipe, root: Path) -> None:
    """An expected score is of a task that its suite has, at checkpoints that the suite measures."""
    for name, expectation in recipe.expectations.scores.items():
        key = f"expectations.scores.{name}"
        suite = recipe.evaluation.suites[expectation.suite] if expectation.suite is not None else None
        tasks = own_tasks(recipe, root) if suite is None else suite_tasks(suite, root)
        if expectation.task is not None and expectation.task not in tasks:
            what = f"task in the suite {expectation.suite}" if suite is not None else "task"
            remedy = did_you_mean(expectation.task, tasks) if tasks else "the recipe has no tasks: name a suite"
            raise UserError(f"the recipe has no such {what}", key=f"{key}.task", value=expectation.task, remedy=remedy)
        for field in ("at", "above", "not_below"):
            checkpoint = getattr(expectation, field)
            if suite is not None and isinstance(checkpoint, str) and not _measures(suite, checkpoint):
                raise UserError(
                    "the suite does not measure this checkpoint", key=f"{key}.{field}", value=checkpoint,
                    remedy=f"name one of {', '.join(CHAT_CHECKPOINTS)}, or set `on: all` for the suite",
                )  # fmt: skip


def suite_tasks(suite: Suite, root: Path) -> list[str]:
    """The names of a suite's tasks, groups among them; of questions all that they may have."""
    if suite.ruler is not None:
        return [kind + end for kind in suite.ruler.kinds for end in (("", "_yarn") if suite.ruler.yarn else ("",))]
    if (questions := suite.questions) is None:
        return suite.tasks
    if questions.path is not None:
        names = list_data(questions.path, questions.format, root).names
    else:
        names = [questions.generated or ""]
    stems = {without_ending(Path(name)) for name in names}
    return sorted(f"{stem}_{how}" for stem in stems for how in questions.ask or get_args(Formulation))


def _measures(suite: Suite, checkpoint: str) -> bool:
    return checkpoint in (*CHAT_CHECKPOINTS, CHANCE) or not (suite.chat or suite.on == "chat")


def own_tasks(recipe: Recipe, root: Path) -> list[str]:
    """The names of the recipe's own tasks, as their files say."""
    if recipe.evaluation.tasks is None:
        return []
    files = sorted((root / recipe.evaluation.tasks).glob("*.yaml"))
    # The base loader passes over tags such as `!function` and makes plain text of everything.
    read = [yaml.load(file.read_text(), Loader=yaml.BaseLoader) for file in files]  # noqa: S506
    return [task["task"] for task in read if isinstance(task, dict) and "task" in task]
