"""The steps of a recipe: for each its slice of the recipe, its inputs, and the id that follows from both.

Read from top to bottom it is the pipeline. What is in a step's `spec` decides its identity; what is in `run` only
decides how it is executed.
"""

from __future__ import annotations

import contextlib
import math
import platform
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from smolmake.data.batches import batch_at, batch_pieces, batches_within
from smolmake.files import digest
from smolmake.identity.content import content_digest
from smolmake.identity.fingerprint import code_fingerprint
from smolmake.recipe.data import Files
from smolmake.recipe.posttraining import PostTraining, SupervisedTraining
from smolmake.recipe.schema import Recipe
from smolmake.recipe.training import LongContext
from smolmake.train.schedule import Piece, schedule_pieces, within

SCRIPTS = {
    "toyfiles": "write_toy_files",
    "documents": "clean_source",
    "tokenizer": "train_tokenizer",
    "tokenizer_analysis": "analyse_tokenizers",
    "shards": "tokenize_source",
    "mixture": "build_mixture",
    "ledger": "count_epochs",
    "segment": "train_segment",
    "posttraining": "train_conversations",
    "preferences": "make_preferences",
    "alignment": "align_preferences",
    "merge": "merge_models",
    "evaluation": "evaluate_checkpoint",
    "report": "write_report",
}
TOY_SEED = 0
# The toy's English is taken from Python and from what these say of themselves, so their versions identify it.
TOY_PACKAGES = "accelerate datasets huggingface_hub lm_eval numpy pandas pydantic requests safetensors transformers trl"


@dataclass(frozen=True, eq=False)
class Step:
    """One node of the graph."""

    kind: str
    name: str
    spec: dict[str, Any]
    inputs: dict[str, Step]
    id: str
    group: str
    run: dict[str, Any]

    @property
    def key(self) -> str:
        """kind/name-id: the step's folder under results/."""
        return f"{self.kind}/{self.name}-{self.id}"

    @property
    def manifest(self) -> str:
        return f"results/{self.key}/manifest.json"


@dataclass
class Steps:
    """All steps of one recipe, in an order in which inputs come first."""

    root: Path
    all: dict[str, Step] = field(default_factory=dict)
    checkpoints: dict[str, Step] = field(default_factory=dict)

    def add(self, kind: str, name: str, spec: dict[str, Any], inputs: dict[str, Step], group: str, **run: Any) -> Step:
        """Name, identify and keep a step."""
        content = {
            "kind": kind,
            "spec": spec,
            "inputs": {role: step.id for role, step in inputs.items()},
            "code": code_fingerprint(self.root / "workflow" / "scripts" / f"{SCRIPTS[kind]}.py"),
        }
        step = Step(kind, name, spec, inputs, digest(content)[:10], group, run)
        return self.all.setdefault(step.key, step)

    def of_kind(self, kind: str) -> list[Step]:
        return [step for step in self.all.values() if step.kind == kind]


def build_steps(recipe: Recipe, root: Path) -> Steps:
    """All steps of a recipe."""
    steps = Steps(root)
    documents = {name: _documents(steps, recipe, name) for name in recipe.sources}
    tokenizer = _tokenizers(steps, recipe, documents)
    shards = {
        name: steps.add("shards", name, {}, {"documents": documents[name], "tokenizer": tokenizer}, "data")
        for name in recipe.sources
    }
    _pretraining(steps, recipe, tokenizer, shards)
    _post_training(steps, recipe)
    _evaluations(steps, recipe, documents)
    report_inputs = {step.key: step for step in steps.all.values()}
    steps.add("report", recipe.name, {"title": recipe.title, "text": recipe.description}, report_inputs, "report")
    return steps


def _place(steps: Steps, files: Files, inputs: dict[str, Step], role: str) -> dict[str, Any]:
    """Where a dataset lies, for a spec; a toy file adds the step that writes it to `inputs`."""
    if files.toy is not None:
        inputs[role] = steps.add("toyfiles", "toy", _toy_spec(), {}, "data")
        return {"toy": files.toy, "format": files.format}
    assert files.path is not None
    return {"path": files.path, "format": files.format, "content": content_digest(files.path, steps.root)}


@cache
def _toy_spec() -> dict[str, Any]:
    versions = {}
    for name in TOY_PACKAGES.split():
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"seed": TOY_SEED, "python": platform.python_version(), "packages": versions}


def _documents(steps: Steps, recipe: Recipe, name: str) -> Step:
    source, inputs = recipe.sources[name], dict[str, Step]()
    spec = {
        "files": _place(steps, source, inputs, "files"),
        "text": source.text,
        "cleaning": recipe.cleaning.model_dump(),
    }
    if recipe.evaluation.data is not None:
        spec["tasks"] = _place(steps, recipe.evaluation.data, inputs, "tasks")
    return steps.add("documents", name, spec, inputs, "data")


def _tokenizers(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> Step:
    """The chosen tokenizer; its rivals and the analysis are steps beside it."""
    inputs = {f"documents:{name}": step for name, step in documents.items()}
    characters = recipe.tokenizer.characters_per_source
    trained = [
        steps.add("tokenizer", f"bpe-{size}", {"vocab_size": size, "characters": characters}, inputs, "tokenizer")
        for size in dict.fromkeys([recipe.tokenizer.vocab_size, *recipe.tokenizer.compare])
    ]
    about = {name: {"language": source.language, "domain": source.domain} for name, source in recipe.sources.items()}
    spec = {"chosen": trained[0].name, "sources": about}
    rivals = {f"tokenizer:{step.name}": step for step in trained}
    steps.add("tokenizer_analysis", "analysis", spec, {**inputs, **rivals}, "tokenizer")
    return trained[0]


def _pretraining(steps: Steps, recipe: Recipe, tokenizer: Step, shards: dict[str, Step]) -> None:
    """Mixtures, the ledger over them, and the segments of stages 1 to 3 and of the long-context extensions."""
    pretraining, ledger_stages, mixtures = recipe.pretraining, list[dict[str, Any]](), dict[str, Step]()
    before: tuple[Step, int] | None = None
    for stage in [*pretraining.stages, *recipe.long_context]:
        extension = isinstance(stage, LongContext)
        length = stage.sequence_length if isinstance(stage, LongContext) else pretraining.sequence_length
        batch = stage.global_batch if isinstance(stage, LongContext) else pretraining.global_batch
        total = math.fsum(stage.mixture.values())
        weights = {name: weight / total for name, weight in sorted(stage.mixture.items()) if weight > 0}
        spec: dict[str, Any] = {"weights": weights, "sequence_length": length, "seed": recipe.seed}
        inputs = {f"shards:{name}": shards[name] for name in weights}
        if extension:
            before, spec["fresh"] = None, stage.name
        if before is not None:
            inputs["before"], spec["before_sequences"] = before
        mixture = steps.add("mixture", stage.name, spec, inputs, "data")
        sequences = stage.steps * batch
        if stage is pretraining.stages[0] and pretraining.batch_warmup:
            sequences = batch_at(batch_pieces(pretraining), stage.steps)[1]
        before = (mixture, sequences)
        mixtures[stage.name] = mixture
        ledger_stages.append({"stage": stage.name, "sequences": sequences, "capped": not extension})
    about = {
        name: {"max_epochs": source.max_epochs, "domain": source.domain, "language": source.language}
        for name, source in recipe.sources.items()
    }
    ledger_inputs = {f"mixture:{name}": step for name, step in mixtures.items()}
    steps.add("ledger", recipe.name, {"stages": ledger_stages, "sources": about}, ledger_inputs, "data")

    total_steps = sum(stage.steps for stage in pretraining.stages)
    pieces = schedule_pieces(pretraining.schedule, total_steps)
    parent, stage_start = None, 0
    for stage in pretraining.stages:
        shape = {
            "sequence_length": pretraining.sequence_length,
            "global_batch": pretraining.global_batch,
            "rope_theta": recipe.model.rope_theta,
        }
        end = stage_start + stage.steps
        for start in range(stage_start, end, pretraining.segment_steps):
            span = (start, min(start + pretraining.segment_steps, end))
            parent = _segment(
                steps, recipe, stage.name, span, stage_start, pieces, shape, tokenizer, mixtures, parent, start == 0
            )
        stage_start = end
    for extension_stage in recipe.long_context:
        pieces = schedule_pieces(extension_stage.schedule, extension_stage.steps)
        shape = {
            "sequence_length": extension_stage.sequence_length,
            "global_batch": extension_stage.global_batch,
            "rope_theta": extension_stage.rope_theta,
        }
        for start in range(0, extension_stage.steps, pretraining.segment_steps):
            span = (start, min(start + pretraining.segment_steps, extension_stage.steps))
            parent = _segment(
                steps, recipe, extension_stage.name, span, 0, pieces, shape, tokenizer, mixtures, parent, start == 0
            )


def _segment(
    steps: Steps,
    recipe: Recipe,
    stage: str,
    span: tuple[int, int],
    stage_start: int,
    pieces: list[Piece],
    shape: dict[str, Any],
    tokenizer: Step,
    mixtures: dict[str, Step],
    parent: Step | None,
    fresh: bool,
) -> Step:
    """One segment: its spec holds only what matters within its span."""
    start, end = span
    spec: dict[str, Any] = {
        "start": start,
        "end": end,
        "stage_start": stage_start,
        "schedule": within(pieces, start, end),
        "optimizer": recipe.pretraining.optimizer.used(),
        "fresh_optimizer": fresh,
        "precision": recipe.pretraining.precision,
        "z_loss": recipe.pretraining.z_loss,
        "guard": None if recipe.pretraining.guard is None else recipe.pretraining.guard.model_dump(),
        **shape,
    }
    if recipe.pretraining.batch_warmup and stage == recipe.pretraining.stages[0].name:
        spec["batches"] = batches_within(batch_pieces(recipe.pretraining), start, end)
    inputs = {"mixture": mixtures[stage], "tokenizer": tokenizer}
    if parent is None:
        spec["model"] = recipe.model.model_dump(exclude={"rope_theta", "parameters", "parameters_tolerance"})
        spec["seed"] = recipe.seed
    else:
        inputs["parent"] = parent
    every = recipe.pretraining.milestone_steps
    run = recipe.run.model_dump(exclude={"layouts"}) | {
        "sequences_per_forward": recipe.pretraining.sequence_length,
        "layout": recipe.run.layout(stage).model_dump(),
        "launcher": recipe.run.layout(stage).launcher,
        "milestones": [] if every is None else [step for step in range(start + 1, end) if step % every == 0],
    }
    segment = steps.add("segment", f"{stage}-{start}-{end}", spec, inputs, stage, **run)
    steps.checkpoints[stage] = segment
    return segment


def _post_training(steps: Steps, recipe: Recipe) -> None:
    """Mid-training, SFT, preference pairs, APO and the merge, each from the step before."""
    parent = list(steps.checkpoints.values())[-1]
    for name, section in (("mid", recipe.mid_training), ("sft", recipe.sft)):
        if section is not None:
            parent = _supervised(steps, recipe, name, section, parent)
    pairs: Step | None = None
    if recipe.preferences is not None:
        section_ = recipe.preferences
        inputs = {"strong": steps.checkpoints[section_.strong], "weak": steps.checkpoints[section_.weak]}
        spec = section_.model_dump(exclude={"strong", "weak", "prompts"}) | {"seed": recipe.seed}
        spec["prompts"] = _place(steps, section_.prompts, inputs, "prompts")
        spec["template"] = _template(steps, recipe)
        pairs = steps.add("preferences", "pairs", spec, inputs, "apo", **recipe.run.model_dump())
    if recipe.apo is not None:
        inputs = {"parent": steps.checkpoints["sft"]} | ({"pairs": pairs} if pairs is not None else {})
        spec = recipe.apo.model_dump(exclude={"data"}) | {"seed": recipe.seed}
        spec["data"] = {name: _place(steps, files, inputs, f"data:{name}") for name, files in recipe.apo.data.items()}
        steps.checkpoints["apo"] = steps.add("alignment", "apo", spec, inputs, "apo", **recipe.run.model_dump())
    if recipe.merge is not None:
        total = math.fsum(recipe.merge.weights.values())
        weights = {name: weight / total for name, weight in recipe.merge.weights.items() if weight > 0}
        inputs = {f"model:{name}": steps.checkpoints[name] for name in weights}
        inputs["tokenizer"] = list(steps.checkpoints.values())[-1]
        steps.checkpoints["merged"] = steps.add("merge", "merged", {"weights": weights}, inputs, "merge")


def _supervised(steps: Steps, recipe: Recipe, name: str, section: SupervisedTraining, parent: Step) -> Step:
    inputs = {"parent": parent}
    spec = _training_spec(section) | {"loss": section.loss, "seed": recipe.seed}
    spec["template"] = (steps.root / "config" / "templates" / section.chat_template).read_text()
    spec["data"] = {
        dataset: _place(steps, files, inputs, f"data:{dataset}") | {"share": files.share}
        for dataset, files in section.data.items()
    }
    step = steps.add("posttraining", name, spec, inputs, name, **recipe.run.model_dump())
    steps.checkpoints[name] = step
    return step


def _training_spec(section: PostTraining) -> dict[str, Any]:
    return section.model_dump(include=set(PostTraining.model_fields))


def _template(steps: Steps, recipe: Recipe) -> str | None:
    """The chat template that prompts are rendered with: the SFT step's, else mid-training's."""
    section = recipe.sft or recipe.mid_training
    return None if section is None else (steps.root / "config" / "templates" / section.chat_template).read_text()


def _evaluations(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> None:
    """One evaluation for every checkpoint, the segments' included."""
    checkpoints = [*steps.of_kind("segment"), *(s for s in steps.checkpoints.values() if s.kind != "segment")]
    about = {name: {"language": source.language, "domain": source.domain} for name, source in recipe.sources.items()}
    for checkpoint in checkpoints:
        inputs = {"checkpoint": checkpoint} | {f"documents:{name}": step for name, step in documents.items()}
        spec: dict[str, Any] = recipe.evaluation.model_dump(exclude={"tasks", "data"})
        spec |= {"sources": about, "template": _template(steps, recipe), "tasks": None}
        spec["heldout_tokens"] = recipe.pretraining.sequence_length  # the same text for every checkpoint
        if recipe.evaluation.tasks is not None and recipe.evaluation.data is not None:
            folder = Path("config/tasks") / recipe.evaluation.tasks
            spec["tasks"] = {"folder": folder.as_posix(), "content": content_digest(folder.as_posix(), steps.root)}
            spec["data"] = _place(steps, recipe.evaluation.data, inputs, "data")
        steps.add("evaluation", checkpoint.name, spec, inputs, checkpoint.group, **recipe.run.model_dump())
