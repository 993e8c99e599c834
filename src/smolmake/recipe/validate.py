"""What can be known to be wrong with a recipe before anything runs, beyond the form of its values."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from smolmake.errors import UserError, did_you_mean
from smolmake.listing import matching_files
from smolmake.recipe.expectations import CHANCE
from smolmake.recipe.pretraining import Schedule, Stage
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Files
from smolmake.recipe.validate_expectations import check_expectations

# What else is named beside stages: checkpoints, other stages of the graph, layouts, and what a score is compared with.
RESERVED = (
    "base", "mid", "sft", "apo", "merge", "merged", "data", "tokenizer", "preflight", "pretraining", "evaluation",
    "report", CHANCE,
)  # fmt: skip


def check_recipe(recipe: Recipe, path: Path, root: Path) -> None:
    """Raise UserError for contradictions inside the recipe and for files that are missing or empty."""
    _check_sections(recipe, path)
    _check_repeats(recipe, path)
    _check_stages(recipe, path)
    _check_schedules(recipe, path)
    _check_checkpoints(recipe, path)
    _check_generated(recipe, path, root)
    check_expectations(recipe, checkpoint_names(recipe), path, root)
    for key, files in all_files(recipe):
        _check_files(files, key, path, root)
    for key, template in _templates(recipe):
        _check_exists(template, root / "config" / "templates", key, path)
    if recipe.evaluation.tasks is not None:
        _check_tasks(recipe, recipe.evaluation.tasks, path, root)


def all_stages(recipe: Recipe) -> list[tuple[str, Stage]]:
    """Every stage of pretraining and long context with its key in the recipe."""
    stages = recipe.pretraining.stages if recipe.pretraining is not None else []
    pretraining = [(f"pretraining.stages.{i}", stage) for i, stage in enumerate(stages)]
    extensions = [(f"long_context.{i}", stage) for i, stage in enumerate(recipe.long_context)]
    return [*pretraining, *extensions]


def all_files(recipe: Recipe) -> Iterable[tuple[str, Files]]:
    """Every dataset that the recipe reads, with its key."""
    for name, source in recipe.sources.items():
        if source.shards is None:  # else its text is not read
            yield f"sources.{name}", source
    for section, training in (("mid_training", recipe.mid_training), ("sft", recipe.sft)):
        if training is not None:
            for name, conversations in training.data.items():
                yield f"{section}.data.{name}", conversations
    if recipe.preferences is not None:
        yield "preferences.prompts", recipe.preferences.prompts
    if recipe.apo is not None:
        for name, files in recipe.apo.data.items():
            yield f"apo.data.{name}", files
    if recipe.evaluation.data is not None:
        yield "evaluation.data", recipe.evaluation.data


def _check_sections(recipe: Recipe, path: Path) -> None:
    """What a recipe must have to start from nothing, or from a base model."""
    needed: dict[str, object] = {"pretraining": recipe.pretraining} if recipe.base is None else {}
    if recipe.pretraining is not None:
        needed |= {"sources": recipe.sources}
        if recipe.base is None:
            needed |= {"tokenizer": recipe.tokenizer, "model": recipe.model}
    elif recipe.long_context:
        needed |= {"pretraining": None}
    for key, section in needed.items():
        if not section:
            raise UserError(
                "a required section is missing",
                file=path,
                key=key,
                remedy=f"add `{key}` (see docs/reference/recipe.md); without pretraining a recipe starts from a model: "
                "`base`",
            )
    if recipe.base is not None and recipe.model is not None and recipe.pretraining is not None:
        raise UserError(
            "a base model has its own architecture", file=path, key="model", remedy="remove `model`, or remove `base`"
        )
    trains_tokenizer = recipe.tokenizer is not None and recipe.tokenizer.hub is recipe.tokenizer.path is None
    if trains_tokenizer and recipe.pretraining is not None and all(s.shards for s in recipe.sources.values()):
        raise UserError(
            "there is no text to train a tokenizer on: all sources are adopted shards",
            file=path, key="tokenizer", remedy="name the tokenizer that the shards were made with: `path` or `hub`",
        )  # fmt: skip


def _check_repeats(recipe: Recipe, path: Path) -> None:
    """Every source that another must not repeat exists, and they do not go in a circle."""

    def follow(name: str, way: list[str]) -> None:
        for other in recipe.sources[name].duplicates_of:
            key = f"sources.{name}.duplicates_of"
            if other not in recipe.sources:
                remedy = did_you_mean(other, recipe.sources)
                raise UserError("the recipe has no such source", file=path, key=key, value=other, remedy=remedy)
            if other in [*way, name]:
                circle = " → ".join([*way, name, other])
                raise UserError(
                    "sources drop each other's documents in a circle", file=path, key=key, value=circle,
                    remedy="take one of them out: the source that is named keeps its documents",
                )  # fmt: skip
            follow(other, [*way, name])

    for name in recipe.sources:
        follow(name, [])


def _check_stages(recipe: Recipe, path: Path) -> None:
    start = 0
    for i, stage in enumerate(recipe.pretraining.stages if recipe.pretraining is not None else []):
        if stage.starts_at is not None and stage.starts_at != start:
            raise UserError(
                f"{stage.name} starts at step {start:,}, where the stages before it end: they"
                f" {'overlap' if start > stage.starts_at else 'leave a gap'}",
                file=path, key=f"pretraining.stages.{i}.starts_at", value=stage.starts_at,
                remedy="mend the steps of the stages before it, or remove `starts_at`",
            )  # fmt: skip
        start += stage.steps
    names: set[str] = set()
    for key, stage in all_stages(recipe):
        if stage.name in RESERVED:
            raise UserError(
                "a stage has the name of another part of the run",
                file=path,
                key=f"{key}.name",
                value=stage.name,
                remedy="give it another name, such as stage1",
            )
        if stage.name in names:
            raise UserError(
                "two stages have one name", file=path, key=f"{key}.name", value=stage.name, remedy="rename one"
            )
        names.add(stage.name)
        for source in stage.mixture:
            if source not in recipe.sources:
                raise UserError(
                    "the mixture names a source that the recipe does not have",
                    file=path,
                    key=f"{key}.mixture.{source}",
                    remedy=did_you_mean(source, recipe.sources),
                )
        if sum(stage.mixture.values()) <= 0:
            raise UserError(
                "the mixture's weights sum to nothing",
                file=path,
                key=f"{key}.mixture",
                value=stage.mixture,
                remedy="give at least one source a weight above 0",
            )


def _check_schedules(recipe: Recipe, path: Path) -> None:
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
                file=path,
                key=f"{key}.schedule",
                value=f"warmup_steps {schedule.warmup_steps}, decay_steps {schedule.decay_steps}, tail of {tail}",
                remedy="shorten one of them, or train longer",
            )


def checkpoint_names(recipe: Recipe) -> list[str]:
    """Names by which the recipe can refer to checkpoints: stages (their last segment) and post-training steps."""
    names = ["base"] if recipe.base is not None else []
    names += [stage.name for _, stage in all_stages(recipe)]
    steps = [("mid", recipe.mid_training), ("sft", recipe.sft), ("apo", recipe.apo)]
    return names + [name for name, section in steps if section is not None]


def _check_checkpoints(recipe: Recipe, path: Path) -> None:
    names = checkpoint_names(recipe)
    asked = []
    if recipe.preferences is not None:
        asked += [("preferences.strong", recipe.preferences.strong), ("preferences.weak", recipe.preferences.weak)]
    if recipe.merge is not None:
        asked += [(f"merge.weights.{name}", name) for name in recipe.merge.weights]
        if sum(recipe.merge.weights.values()) <= 0:
            raise UserError(
                "the merge's weights sum to nothing", file=path, key="merge.weights", remedy="give weights above 0"
            )
    for key, name in asked:
        if name not in names or (key.startswith("preferences") and name == "apo"):
            raise UserError(
                "the recipe makes no such checkpoint before this step",
                file=path,
                key=key,
                value=name,
                remedy=did_you_mean(name, names),
            )
    if recipe.apo is not None and (recipe.sft is None or not (recipe.preferences or recipe.apo.data)):
        raise UserError(
            "APO needs an SFT model and pairs",
            file=path,
            key="apo",
            remedy="add the section `sft`, and `preferences` or `apo.data`",
        )


def _check_tasks(recipe: Recipe, tasks: str, path: Path, root: Path) -> None:
    if not any((root / tasks).glob("*.yaml")):
        raise UserError(
            "there is no folder of task files", file=path, key="evaluation.tasks", value=tasks,
            remedy="name a folder with *.yaml files of lm-evaluation-harness; it is taken from the project's root",
        )  # fmt: skip
    if recipe.evaluation.data is None:
        raise UserError(
            "evaluation tasks without data", file=path, key="evaluation.data",
            remedy="give the folder of the tasks' data files, such as `data: {path: my-tasks}`",
        )  # fmt: skip


def _check_generated(recipe: Recipe, path: Path, root: Path) -> None:
    """The scripts and what they read are there, and what datasets name is generated."""
    for name, generated in recipe.generated.items():
        key = f"generated.{name}"
        if not (root / generated.script).is_file():
            raise UserError(
                "there is no such script", file=path, key=f"{key}.script", value=generated.script,
                remedy="the path is taken from the project's root; check its spelling",
            )  # fmt: skip
        for pattern in generated.reads:
            _check_files(Files(path=pattern), f"{key}.reads", path, root)
        for package in generated.packages:
            if not any(metadata.distributions(name=package)):
                raise UserError(
                    "this package is not installed", file=path, key=f"{key}.packages", value=package,
                    remedy="install it, or take it out if the script does not read it",
                )  # fmt: skip
    for key, files in all_files(recipe):
        if files.generated is None:
            continue
        name, _, inside = files.generated.partition("/")
        if name not in recipe.generated:
            remedy = did_you_mean(name, recipe.generated) if recipe.generated else "add a section `generated`"
            raise UserError(
                "the recipe generates no such data", file=path, key=f"{key}.generated", value=name, remedy=remedy
            )
        if inside.startswith("/") or ".." in Path(inside).parts:
            raise UserError(
                "the file lies outside of what is generated", file=path, key=f"{key}.generated", value=files.generated,
                remedy="name a file, a folder or a glob that the script writes under its output folder",
            )  # fmt: skip


def _check_files(files: Files, key: str, recipe: Path, root: Path) -> None:
    if files.path is None:
        return
    found = matching_files(files.path, root)
    if not found and (root / files.path).is_dir():
        raise UserError(
            "there is no file in this folder",
            file=recipe,
            key=f"{key}.path",
            value=files.path,
            remedy="put text, JSONL or Parquet files in it",
        )
    if not found:
        raise UserError(
            "there is no such file", file=recipe, key=f"{key}.path", value=files.path,
            remedy="the path is taken from the project's root; check its spelling",
        )  # fmt: skip
    if not any(file.stat().st_size for file in found):
        raise UserError("the file is empty", file=recipe, key=f"{key}.path", value=files.path, remedy="put data in it")


def _templates(recipe: Recipe) -> list[tuple[str, str]]:
    sections = [("mid_training", recipe.mid_training), ("sft", recipe.sft)]
    return [(f"{key}.chat_template", section.chat_template) for key, section in sections if section is not None]


def _check_exists(name: str, folder: Path, key: str, recipe: Path) -> None:
    known = sorted(file.name for file in folder.glob("*") if not file.name.startswith((".", "_")))
    if name not in known:
        raise UserError(
            f"there is no such file in {folder.name}",
            file=recipe,
            key=key,
            value=name,
            remedy=did_you_mean(name, known),
        )
