"""Compute one step of a recipe here and now, as its rule would, with its log on the terminal.

STEP is a kind and a name as the plan shows them, such as segment/stage1-0-170. What it reads must be there. To debug a
step, to see it work, or to compute it on a node of one's own.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from smolmake.errors import UserError, did_you_mean
from smolmake.execution.devices import machine_gpus
from smolmake.execution.rules import runs_plainly
from smolmake.execution.step import Step
from smolmake.planning.requests import check_one_machine, own_gpus
from smolmake.planning.workflow import Workflow, job_environment, load_workflow

NAMED = 5  # missing inputs that a message names


def run_step_by_hand(recipe: str, label: str, root: Path) -> int:
    """Compute the step `label` (kind/name, or kind/name-id) of a recipe, its log on the terminal; gives its exit code.

    Raises:
        UserError: if the recipe has no such step, or what it reads is not there.
    """
    workflow = load_workflow(recipe, root)
    step = find_step(workflow, label)
    if workflow.finished(step):
        print(f"{step.key} is finished: delete results/{step.key}/manifest.json to compute it again", file=sys.stderr)
        return 0
    missing = [other.label for other in step.inputs.values() if not workflow.finished(other)]
    if missing:
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        raise UserError(
            f"{step.label} reads what is not there: {', '.join(missing[:NAMED])}{more}",
            file=workflow.file, key="step", value=label,
            remedy=f"compute that first, each in the same way, or all of it with: snakemake --config recipe={recipe}"
            f" {step.manifest}",
        )  # fmt: skip
    if not runs_plainly(step.kind, root):
        raise UserError(
            f"the rule {step.kind} adds to the command of its steps what a step by hand would leave out",
            file=root / "workflow" / "rules", key=f"rule {step.kind}", value=step.label,
            remedy=f"compute it by its rule: snakemake --config recipe={recipe} {step.manifest}",
        )  # fmt: skip
    workflow.write_jobs([step.manifest])
    machine = len(machine_gpus())
    check_one_machine([step], machine)
    command = [*shlex.split(workflow.command(step, own_gpus(step, machine))), "--workers", str(step.run.threads)]
    return subprocess.run(command, cwd=root, env=job_environment(root)).returncode


def find_step(workflow: Workflow, label: str) -> Step:
    """The step of a label, with or without its id.

    Raises:
        UserError: if the recipe has no such step.
    """
    for step in workflow.steps.all.values():
        if label in (step.label, step.key):
            return step
    kinds = {step.kind for step in workflow.steps.all.values()}
    alike = [step.label for step in workflow.steps.of_kind(label.partition("/")[0])]
    raise UserError(
        "the recipe has no such step",
        file=workflow.file, key="step", value=label, remedy=did_you_mean(label, alike or sorted(kinds)),
    )  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("step", metavar="STEP", help="KIND/NAME or KIND/NAME-ID")
    parser.add_argument("--recipe", default="toy", help="a name in config/recipes, or a path (default: toy)")


def run(arguments: argparse.Namespace) -> None:
    sys.exit(run_step_by_hand(arguments.recipe, arguments.step, Path.cwd()))
