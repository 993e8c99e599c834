"""What a run of Snakemake says of itself as a whole: where it goes on, and to the recipe's webhook what failed."""

from __future__ import annotations

import os
import sys

from smolmake.execution.other_names import BEGUN, RUN
from smolmake.files import write_json
from smolmake.monitoring.alerts import AlertSender, check_webhook
from smolmake.planning.history import History, last_saved, named_results
from smolmake.planning.workflow import Workflow

_begun: list[tuple[Workflow, AlertSender]] = []


def begin(workflow: Workflow) -> None:
    """Note the run's steps, for its jobs and for gc, and say where trainings go on: before the first job starts.

    Raises:
        UserError: if the recipe wants alerts and the environment has no address for them.
    """
    alerts = workflow.recipe.runtime.alerts
    settings = None if alerts is None else alerts.model_dump()
    check_webhook(settings)
    steps = {step.label: key for key, step in workflow.steps.all.items()}
    steps |= {f"named: {key}": key for key in named_results(workflow.steps.values, workflow.steps.root)}
    write_json(workflow.steps.root / "results" / "latest" / workflow.recipe.name / BEGUN, steps)
    os.environ[RUN] = workflow.recipe.name
    _begun.append((workflow, AlertSender(settings, {"recipe": workflow.recipe.name})))
    history = History(workflow.steps.root)
    for step in workflow.steps.all.values():
        if history.begun(step) and (saved := last_saved(workflow.steps.root / "results" / step.key / "recovery")):
            print(f"{step.key} goes on from step {saved:,}", file=sys.stderr)
    name = workflow.file.stem if workflow.file.parent.name == "recipes" else workflow.file
    print(f"How far it is: smolmake status {name}. Logs: logs/KIND/STEP.log", file=sys.stderr)


def job_failed(output: str, log: str) -> None:
    """Post that a job failed; nothing in a process that only runs a job."""
    for _, alerts in _begun[-1:]:
        alerts.post("job", f"a job failed: {output}", output=output, log=log)


def ended(succeeded: bool) -> None:
    """Post how the run ended, and wait for the messages under way, for some seconds at most."""
    for workflow, alerts in _begun[-1:]:
        steps = workflow.steps.all
        done = len(History(workflow.steps.root).finished & set(steps))
        how = "the run is done" if succeeded else "the run has failed"
        alerts.post("end", f"{how}: {done:,} of {len(steps):,} steps are finished", succeeded=succeeded, done=done)
        alerts.close()
