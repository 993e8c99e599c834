"""The steps of evaluation: every checkpoint, its suites, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from smolmake.errors import UserError
from smolmake.execution.content_hash import tasks_digest
from smolmake.execution.kinds import KINDS
from smolmake.execution.step import Step, Steps
from smolmake.graph.data import adopt_model, source_labels
from smolmake.graph.datasets import files_spec
from smolmake.graph.posttrain import template_keys, template_text
from smolmake.graph.specs.data import HeldoutSpec
from smolmake.graph.specs.evaluate import (
    CheckTasksSpec,
    EvaluationSpec,
    QuestionFiles,
    RulerQuestions,
    SuiteRun,
    SuiteSpec,
    TaskFiles,
)
from smolmake.graph.specs.pretrain import SegmentRun
from smolmake.graph.specs.runs import DeviceRun
from smolmake.recipe.evaluation import Suite
from smolmake.recipe.runtime import Layout
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Files

ANSWERS_PER_STEP = 8  # of a suite with `repeats`, to each item
Suites = dict[str, tuple[SuiteSpec, dict[str, Step]]]  # by name: what each asks, and what generates its questions


@dataclass(frozen=True)
class Evaluated:
    """A checkpoint to evaluate: the step that keeps it, and the milestone inside a segment, or None for its end."""

    name: str
    step: Step
    milestone: int | None
    ends: bool

    @property
    def keys(self) -> tuple[str, ...]:
        return () if self.milestone is None else ("pretraining.milestone_steps",)


def evaluated(steps: Steps) -> Iterator[Evaluated]:
    """Every checkpoint of the graph in the order in which it comes to be; ends are those of stages and later steps."""
    last = {step.key for step in steps.checkpoints.values()}
    for step in list(steps.all.values()):
        if step.kind == "segment":
            for at in step.run_as(SegmentRun).milestones:
                yield Evaluated(f"{step.stage}-at-{at}", step, at, False)
            yield Evaluated(step.name, step, None, step.key in last)
        elif KINDS[step.kind].chat or (step.kind == "adopted" and step.key in last):
            yield Evaluated(step.name, step, None, True)


def add_evaluations(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> None:
    """One evaluation for every checkpoint, milestones and other models included, and one for each of its suites."""
    for name, model in recipe.evaluation.models.items():
        steps.checkpoints[name] = adopt_model(steps, name, model, f"evaluation.models.{name}")
    section, template = recipe.evaluation, template_text(steps, recipe)
    shared: dict[str, Step] = {"heldout": _heldout(steps, recipe, documents)} if documents else {}
    tasks = _task_files(steps, recipe, shared)
    layout, device = recipe.runtime.layouts.get("evaluation") or Layout(), recipe.runtime.device
    keys = tuple(f"evaluation.{key}" for key in ("tasks", "data", "limit", "prompts", "chat_prompts"))
    chat_keys = template_keys(recipe)
    suites = {name: _asked(steps, name, suite, template, shared) for name, suite in section.suites.items()}
    _check_tasks(steps, recipe, tasks, template, shared, suites)
    for checkpoint in evaluated(steps):
        chat = None if checkpoint.name in section.models else template  # another model has a template of its own
        spec = EvaluationSpec(
            tasks=tasks, limit=section.limit, prompts=section.prompts, chat_prompts=section.chat_prompts,
            template=chat, milestone=checkpoint.milestone,
            # the same text for every checkpoint
            heldout_tokens=recipe.pretraining.sequence_length if recipe.pretraining is not None else None,
        )  # fmt: skip
        inputs, stage = {"checkpoint": checkpoint.step}, checkpoint.step.stage
        run = DeviceRun(layout=layout, device=device)
        steps.add(
            "evaluation", checkpoint.name, spec, inputs | shared, stage, (*keys, *chat_keys, *checkpoint.keys), run
        )
        for name, suite in section.suites.items():
            if _requested(suite, checkpoint, recipe):
                asked, reads = suites[name]
                where = {"milestone": checkpoint.milestone, "template": asked.template and chat}
                suite_keys = (f"evaluation.suites.{name}", *(chat_keys if suite.chat else ()), *checkpoint.keys)
                for part in in_parts(asked.model_copy(update=where)):
                    steps.add(
                        "suite", f"{checkpoint.name}.{name}{part.name_of_part}", part,
                        inputs | reads, stage, suite_keys,
                        SuiteRun(layout=layout, device=device, suite=name),
                    )  # fmt: skip


def in_parts(asked: SuiteSpec) -> Iterator[SuiteSpec]:
    """A suite's steps: each gives so many answers to every item, so that more can be added to those that are there."""
    repeats = asked.harness.repeats
    for first in range(0, repeats, ANSWERS_PER_STEP):
        harness = asked.harness.model_copy(update={"repeats": min(ANSWERS_PER_STEP, repeats - first)})
        yield asked.model_copy(update={"harness": harness, "first": first or None})


def _task_files(steps: Steps, recipe: Recipe, inputs: dict[str, Step]) -> TaskFiles | None:
    """The recipe's own tasks, if it has any."""
    section = recipe.evaluation
    if section.tasks is None or section.data is None:
        return None
    data = files_spec(steps, section.data, inputs, "data")
    return TaskFiles(folder=section.tasks, content=tasks_digest(steps.root / section.tasks), data=data)


def _asked(
    steps: Steps, name: str, suite: Suite, template: str | None, shared: dict[str, Step]
) -> tuple[SuiteSpec, dict[str, Step]]:
    """What a suite asks, and what generates its questions or holds their text."""
    if suite.ruler is not None:
        text = suite.ruler.text
        haystack = files_spec(steps, Files(path=text, format="text"), {}, "text") if text is not None else None
        if text is None and "heldout" not in shared:
            raise UserError(
                "the recipe has no documents to hide needles in", key=f"evaluation.suites.{name}.ruler.text",
                remedy="name text files there, from the project's root",
            )  # fmt: skip
        reads = {"heldout": shared["heldout"]} if text is None else {}
        ruler = RulerQuestions(kinds=suite.ruler.kinds, text=haystack, yarn=suite.ruler.yarn)
        return SuiteSpec(harness=suite, ruler=ruler, template=template if suite.chat else None), reads
    inputs, questions, files = dict[str, Step](), suite.questions, None
    if questions is not None:
        data = files_spec(steps, questions, inputs, "data")
        files = QuestionFiles(data=data, ask=questions.ask, prompt=questions.prompt, delimiter=questions.delimiter)
    return SuiteSpec(harness=suite, questions=files, template=template if suite.chat else None), inputs


def _check_tasks(
    steps: Steps, recipe: Recipe, tasks: TaskFiles | None, template: str | None, shared: dict[str, Step], suites: Suites
) -> None:
    """Every task on a tiny model, where machines are checked too: a task that cannot run is found before training."""
    tokenizer = next(iter(steps.of_kind("tokenizer")), None)
    if tokenizer is None or not steps.of_kind("preflight") or not (tasks or suites):
        return
    spec = CheckTasksSpec(tasks=tasks, template=template, suites={name: asked for name, (asked, _) in suites.items()})
    inputs = {"tokenizer": tokenizer, **{role: step for role, step in shared.items() if role == "data"}}
    inputs |= {f"{role}:{name}": step for name, (_, reads) in suites.items() for role, step in reads.items()}
    keys = (
        "evaluation.tasks",
        "evaluation.data",
        *template_keys(recipe),
        *(f"evaluation.suites.{name}" for name in suites),
    )
    run = DeviceRun(device=recipe.runtime.device, threads=recipe.runtime.threads)
    steps.add("check_tasks", recipe.name, spec, inputs, "preflight", keys, run)


def _heldout(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> Step:
    """The held-out documents of all sources in one place, so that an evaluation has one input for them, not dozens."""
    labels, keys = source_labels(recipe, documents)
    spec = HeldoutSpec(documents=recipe.evaluation.heldout_documents, sources=labels)
    inputs = {f"documents:{name}": step for name, step in documents.items()}
    return steps.add("heldout", recipe.name, spec, inputs, "data", (*keys, "evaluation.heldout_documents"))


def _requested(suite: Suite, checkpoint: Evaluated, recipe: Recipe) -> bool:
    """Whether a suite is for a checkpoint; one that asks through the chat template is for those that answer by it."""
    model = recipe.evaluation.models.get(checkpoint.name)
    chat = KINDS[checkpoint.step.kind].chat if model is None else model.chat
    if suite.on == "chat" or suite.chat:
        return chat
    return suite.on == "all" or checkpoint.ends
