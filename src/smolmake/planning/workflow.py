"""A recipe's graph in the form in which the rules ask for it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from smolmake.errors import UserError, did_you_mean
from smolmake.execution.bytecode import check_by_content
from smolmake.execution.code_memory import remembered_code
from smolmake.execution.fingerprint import PACKAGE, SOURCE_ROOT
from smolmake.execution.job import job_file
from smolmake.execution.kinds import KINDS
from smolmake.execution.step import Step, Steps
from smolmake.files import canonical_json, digest, write_atomically
from smolmake.graph.build import build_steps
from smolmake.graph.specs.pretrain import SegmentRun
from smolmake.graph.specs.runs import DeviceRun
from smolmake.planning.checks import check_plan
from smolmake.planning.optimizer_states import check_states
from smolmake.planning.payloads import steps_to_repeat
from smolmake.recipe.load import find_recipe, load_recipe, locate
from smolmake.recipe.schema import Recipe


@dataclass(frozen=True)
class Workflow:
    """A recipe and its steps."""

    recipe: Recipe
    file: Path
    steps: Steps

    @cached_property
    def _by_name_and_id(self) -> dict[str, Step]:
        return {key.partition("/")[2]: step for key, step in self.steps.all.items()}

    def step(self, name_and_id: str) -> Step:
        """The step of a wildcard.

        Raises:
            UserError: if the recipe has no such step, as when an old result is asked for by path.
        """
        try:
            return self._by_name_and_id[name_and_id]
        except KeyError:
            raise UserError(
                "the recipe has no such step",
                file=self.file,
                key="step",
                value=name_and_id,
                remedy="ask for a target such as `evaluate`, or set the recipe back to what it was",
            ) from None

    def inputs(self, step: Step, role: str, forced: bool = False) -> list[str]:
        """The manifests that a step reads in a role, those of `role:NAME` included.

        None if the step is finished, unless it is to run again by force: Snakemake would otherwise run a finished step
        again when one of its inputs is lost and made again, although its path says that it is what it should be.
        """
        if self.finished(step) and not forced:
            return []
        return [other.manifest for name, other in step.inputs.items() if name.partition(":")[0] == role]

    def gates(self, segment: Step, kind: str, forced: bool = False) -> list[str]:
        """The manifests of a kind that a segment waits for and does not read; of preflights its own layout's."""
        if self.finished(segment) and not forced:
            return []
        own = segment.run_as(SegmentRun).preflight
        return [gate.manifest for gate in self._gates[kind] if kind != "preflight" or gate.name == own]

    @cached_property
    def _gates(self) -> dict[str, list[Step]]:
        return {kind: self.steps.of_kind(kind) for kind in ("epochs", "preflight", "check_tasks")}

    @cached_property
    def repeated(self) -> dict[str, tuple[str, ...]]:
        """Finished steps that must run again, with the reasons: a step to run would read files that are gone."""
        return steps_to_repeat(self.steps)

    def finished(self, step: Step) -> bool:
        return os.path.exists(f"{self.steps.root}/{step.manifest}") and step.key not in self.repeated

    def repeated_for(self, step: Step) -> set[str]:
        """The manifests that are there and must be made again for a step that was never made."""
        found: dict[str, Step] = {}
        waiting = [] if os.path.exists(f"{self.steps.root}/{step.manifest}") else [step]
        while waiting:
            again = [other for other in waiting.pop().inputs.values() if other.key in self.repeated]
            waiting += [other for other in again if other.manifest not in found]
            found |= {other.manifest: other for other in again}
        return set(found)

    def command(self, step: Step, gpus: int | None) -> str:
        """What computes a step on its devices, but for the number of its workers.

        `gpus` is how many of this machine's it takes for itself; None where there are none or others deal them out.
        """
        launcher = step.run_as(DeviceRun).launcher if KINDS[step.kind].launched else "python"
        own = "" if gpus is None else f"python -m smolmake.execution.devices {gpus} "
        return f"{own}{launcher} {KINDS[step.kind].script} {job_file(step.key)}"

    def job(self, step: Step) -> str:
        """What a step's script is told, in canonical JSON."""
        return canonical_json(
            {
                "kind": step.kind,
                "name": step.name,
                "id": step.id,
                "folder": f"results/{step.key}",
                "spec": step.spec.model_dump(mode="json"),
                "inputs": {role: other.manifest for role, other in step.inputs.items()},
                "run": step.run.model_dump(mode="json"),
                "recipe_values": self.steps.recipe_values(step),
                "config_hash": step.config_hash,
                "recipe": self.recipe.name,
                "recipe_file": str(self.file),
                "code": step.code,
                "versions": step.versions,
            }
        )

    def write_jobs(self, manifests: Iterable[str]) -> None:
        """Write the job files of the steps with these manifests, where they are not there already.

        A command's arguments end at 128 KiB, which a step that reads some hundred sources exceeds.
        """
        wanted = set(manifests)
        for step in self.steps.all.values():
            if step.manifest in wanted:
                file, job = self.steps.root / job_file(step.key), self.job(step)
                if not file.is_file() or file.read_text(encoding="utf-8") != job:
                    write_atomically(file, job)

    def manifests(self, *kinds: str) -> list[str]:
        """The manifests of the steps of these kinds; of all steps if none is named."""
        return [step.manifest for step in self.steps.all.values() if not kinds or step.kind in kinds]

    @property
    def links(self) -> str:
        """The file that says that results/latest/<recipe> shows exactly these steps."""
        state = digest(sorted(self.steps.all))[:10]
        return f"results/latest/{self.recipe.name}/links-{state}.json"


def job_environment(root: Path) -> dict[str, str]:
    """The environment of a step's script: it finds this Python and this tree's package.

    Waiting threads sleep instead of spinning: on a busy machine, two spinning threads were 12 times slower than two
    that sleep; on an idle one they were 8 % faster. Bytecode is kept, even where the environment forbids it, as
    images of containers like to: a job that compiles torch and transformers anew starts 3 to 6 seconds later.
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": str(root / "src")}
    environment["PATH"] = str(Path(sys.executable).parent) + os.pathsep + environment["PATH"]
    return environment | {"PYTHONDONTWRITEBYTECODE": ""}


def load_workflow(name: str, root: Path) -> Workflow:
    """Load a recipe, check it and what it needs, and lay out its steps.

    Raises:
        UserError: for anything that is wrong.
    """
    _check_writable(root / "results")
    recipe, file = load_recipe(name, root), find_recipe(name, root)
    check_by_content([*(SOURCE_ROOT / PACKAGE).rglob("*.py"), *(root / "workflow" / "scripts").rglob("*.py")])
    try:
        check_plan(recipe, file, root)
        with remembered_code(root):
            workflow = Workflow(recipe, file, build_steps(recipe, root))
    except UserError as error:
        raise locate(error, file, root) from None
    check_states(workflow.steps, workflow.repeated)
    return workflow


CONFIG_KEYS = ("recipe", "consent")
_runs: list[SnakemakeRun] = []


@dataclass(frozen=True)
class SnakemakeRun:
    """A run of Snakemake, with functions that give the outputs of the jobs that it would run, and the number of this
    machine's GPUs that they may take; None where they run elsewhere."""

    workflow: Workflow
    outputs: Callable[[], list[str]]
    gpus: Callable[[], int | None]


def begin_run(name: str, root: Path, outputs: Callable[[], list[str]], gpus: Callable[[], int | None]) -> Workflow:
    """`load_workflow` for the Snakefile: the run is kept for the logger plugin, which ends a dry run with its plan."""
    # Snakemake is about to make some hundred objects for each job, none of which is garbage: looking for it among them
    # again and again takes a fifth of a large graph's time.
    gc.set_threshold(50_000, 20, 100)
    workflow = load_workflow(name, root)
    _runs.append(SnakemakeRun(workflow, outputs, gpus))
    return workflow


def current_run() -> SnakemakeRun | None:
    """The run that the Snakefile of this process began last."""
    return _runs[-1] if _runs else None


def _check_writable(results: Path) -> None:
    place = results if results.exists() else results.parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(
            "the results cannot be written", file=place, remedy="give write permission there, or run from another place"
        )


def check_config(config: dict[str, Any]) -> None:
    """Raise UserError for a key of --config that means nothing, or a consent that is no number of GPU-hours."""
    for key in config:
        if key not in CONFIG_KEYS:
            raise UserError(
                "unknown key of --config", key=key, value=config[key], remedy=did_you_mean(key, CONFIG_KEYS)
            )
    consent = config.get("consent")
    if consent is not None and (isinstance(consent, bool) or not isinstance(consent, int | float)):
        raise UserError(
            "consent is a number of GPU-hours",
            key="consent",
            value=consent,
            remedy="write the number that the plan gives, such as consent=1200",
        )


def check_unchanged(workflow: Workflow, now: str, asked: str) -> None:
    """Raise UserError if what the recipe leads to now is not what the graph asked for when it started."""
    if now != asked:
        raise UserError(
            "the recipe or the code has changed since this run started",
            file=workflow.file,
            value=f"asked for {asked}, now {now}",
            remedy="run the same command again: what is still valid is kept",
        )
