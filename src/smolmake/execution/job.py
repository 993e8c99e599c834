"""What every script of workflow/scripts shares: its job file, its errors, its manifest."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from smolmake.errors import UserError, run_as_program
from smolmake.execution.code_memory import remembered_code
from smolmake.execution.devices import hold_gpus
from smolmake.execution.kinds import KINDS
from smolmake.execution.lease import Lease, Lost, await_end, await_main, heartbeat, hold
from smolmake.execution.libraries import installed_versions
from smolmake.execution.manifest import MANIFEST, RECORD, read_manifest, verify_payload, write_manifest
from smolmake.execution.parts import Valid, Work, do_parts, helpers, part_payload
from smolmake.execution.rules import step_code
from smolmake.execution.step import Run, Spec
from smolmake.files import write_json

SpecT = TypeVar("SpecT", bound=Spec, covariant=True)
RunT = TypeVar("RunT", bound=Run, covariant=True)


@dataclass(frozen=True)
class Job(Generic[SpecT, RunT]):
    """One step to compute: what it is (spec), what it reads (inputs: role -> manifest), how it runs (run).

    `recipe_values` is the slice of the recipe it was made from, `config_hash` its identity without the code, `code` the
    fingerprint of the code that its id was made with, `versions` those of libraries that are in it, `recipe` and
    `recipe_file` the recipe that asked for it.
    """

    kind: str
    name: str
    id: str
    folder: Path
    spec: SpecT
    inputs: dict[str, Path]
    run: RunT
    recipe_values: dict[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    code: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    recipe: str = ""
    recipe_file: str = ""
    started: float = field(default_factory=time.time)
    workers: int = 1
    helper: tuple[int, int] | None = None
    lease: Lease | None = None

    def input(self, role: str) -> Path:
        """The folder of an input, after a check that its files are what its manifest says."""
        verify_payload(self.inputs[role])
        return self.inputs[role].parent

    def group(self, prefix: str) -> dict[str, Path]:
        """Folders of the inputs whose role is `prefix:NAME`, by name, checked as `input` does."""
        marker = prefix + ":"
        return {role.removeprefix(marker): self.input(role) for role in self.inputs if role.startswith(marker)}

    def facts(self, role: str) -> dict[str, Any]:
        """The facts that an input's manifest states."""
        facts: dict[str, Any] = read_manifest(self.inputs[role])["facts"]
        return facts

    def record_identity(self, script: Path) -> None:
        """Write identity.json: what the step was made from, for the reasons that later plans give.

        Raises:
            UserError: if the code is no longer what the graph was laid out with, this is not the kind's script, or its
                environment has other libraries than count in its identity.
        """
        if self.code and script.name != Path(KINDS[self.kind].script).name:
            raise UserError(
                "another script than the kind's was started: what it computes would not be what its path says",
                file=script, key="step", value=f"{self.kind}/{self.name}",
                remedy=f"let the rule {self.kind} in workflow/rules run {KINDS[self.kind].script}",
            )  # fmt: skip
        with remembered_code(self.folder.parents[2]):
            code = step_code(self.kind, script)
        if self.code and self.code != code[""][""]:
            raise UserError(
                "this step's rule, its script or code that it calls has changed since the run started: what it computes"
                " now would not be what its path says",
                file=script, key="step", value=f"{self.kind}/{self.name}",
                remedy="run the same command again: what is still valid is kept",
            )  # fmt: skip
        if (here := installed_versions(self.versions)) != self.versions:
            raise UserError(
                "the environment of this step has other versions of libraries than its identity counts with",
                file=script, key=f"library_versions.{self.kind}", value=f"{here}, planned {self.versions}",
                remedy="install the same versions where the plan is made and where the step runs",
            )  # fmt: skip
        record = {
            "spec": self.spec.values(),
            "recipe_values": self.recipe_values,
            "config_hash": self.config_hash,
            "inputs": {role: f"{path.parts[-3]}/{path.parts[-2]}" for role, path in self.inputs.items()},
            "code": code,
            "versions": self.versions,
        }
        write_json(self.folder / RECORD, record)

    def parts(self, count: int, work: Work, valid: Valid | None = None) -> bool:
        """Do the step's parts, as `do_parts` says, with as many processes as the job has workers.

        Gives False in a helper, which has no more to do then.
        """
        if self.helper is not None:
            number, of = self.helper
            do_parts(self.folder, count, work, helper=True, first=number * count // of, valid=valid)
            return False
        with helpers(min(self.workers, count) - 1, sys.argv[1] if self.workers > 1 else ""):
            do_parts(self.folder, count, work, helper=False, valid=valid)
        return True

    def check_lease(self) -> None:
        """Raise Lost if another process has taken the step over: to be called before anything is put in its place."""
        if self.lease is not None:
            self.lease.check()

    def finish_parts(
        self, count: int, payload: list[str], facts: dict[str, Any], about: dict[str, Any] | None = None
    ) -> None:
        """As `finish`, with the files of all parts as payload, whose hashes are known already."""
        self.finish(payload, facts, *part_payload(self.folder, count), about=about)

    def finish(
        self,
        payload: list[str],
        facts: dict[str, Any],
        known: dict[str, Any] | None = None,
        stamps: dict[str, list[int]] | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        """Write the manifest over the payload (files or folders under the step's folder): the step is done.

        `about` goes into provenance.json: what does not belong to the result.
        """
        files: list[Path] = []
        for name in payload:
            path = self.folder / name
            files += [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        self.check_lease()
        step = {"kind": self.kind, "name": self.name, "id": self.id}
        about = {"recipe": self.recipe, "gpus": self.run.gpus} | (about or {})
        write_manifest(self.folder, step, self.inputs, files, facts, self.started, known, about, stamps)
        print(f"{self.kind}/{self.name}-{self.id}: done in {time.time() - self.started:.1f} s", file=sys.stderr)


def job_file(key: str) -> Path:
    """Where the job of a step (kind/name-id) is written down, from the root of the tree."""
    return Path(".smolmake") / "jobs" / f"{key}.json"


def stay_offline() -> None:
    """Switch the Hugging Face hub off, unless the job of the command line reads from it.

    To be called before a library of theirs is imported: they read the environment once.
    """
    with contextlib.suppress(IndexError, OSError):
        if '"hub":' in Path(sys.argv[1]).read_text(encoding="utf-8"):
            return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def read_job(file: Path, spec: type[SpecT], run: type[RunT]) -> Job[SpecT, RunT]:
    """The job that a file describes, of a step with such a spec.

    Raises:
        UserError: if it is not one.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return Job(
            folder=Path(values.pop("folder")),
            spec=spec.model_validate(values.pop("spec")),
            inputs={role: Path(path) for role, path in values.pop("inputs").items()},
            run=run.model_validate(values.pop("run")),
            **values,
        )
    except FileNotFoundError:
        raise UserError(
            "there is no such job: job files are written when a run starts", file=file,
            remedy="run the same command again, or this step alone: smolmake step KIND/NAME",
        ) from None  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = error.errors(include_url=False, include_context=False) if isinstance(error, ValidationError) else []
        places = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong]
        raise UserError(
            f"this is no job for this script, which computes what {spec.__name__} describes",
            file=file, value="; ".join(places[:3]) or repr(error),
            remedy="start the run again, which writes its jobs, or this step alone: smolmake step KIND/NAME",
        ) from None  # fmt: skip


def run_step(compute: Callable[[Job[SpecT, RunT]], None], spec: type[SpecT], run: type[RunT], usage: str) -> None:
    """Parse the command line `SCRIPT JOB`, where JOB is a job file as a run of the workflow writes it, and compute."""

    def main() -> None:
        parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("job", type=Path, help="a job file: .smolmake/jobs/KIND/NAME-ID.json")
        parser.add_argument("--workers", type=int, default=1, help="processes for a step that is done in parts")
        parser.add_argument(
            "--helper", type=int, nargs=2, metavar=("I", "N"), help="only help with the parts, beginning at I / N"
        )
        arguments = parser.parse_args()
        helper = tuple(arguments.helper) if arguments.helper else None
        job = replace(read_job(arguments.job, spec, run), workers=arguments.workers, helper=helper)
        job.folder.mkdir(parents=True, exist_ok=True)
        if job.helper is not None:
            if not (job.folder / MANIFEST).exists():
                compute(job)
            return
        hold_gpus()
        tell_time_limit()
        if rank := int(os.environ.get("RANK", "0")):  # one of several processes: the first has lease and manifest
            if await_main(job.folder):
                with heartbeat(job.folder, rank):
                    try:
                        compute(job)
                    except UserError:
                        await_end(job.folder)
                        raise
            return
        with hold(job.folder, job.folder / MANIFEST) as lease:
            if lease.needless:
                verify_payload(job.folder / MANIFEST)
                return
            (job.folder / MANIFEST).unlink(missing_ok=True)
            job.record_identity(Path(sys.argv[0]).resolve())
            try:
                compute(replace(job, lease=lease))
            except Lost as lost:
                sys.exit(f"error: {lost}; this copy publishes nothing")
            except UserError as error:
                raise named(error, job) from error

    run_as_program(main)


def named(error: UserError, job: Job[Spec, Run]) -> UserError:
    """An error of a key such as `evaluation.suites.*.tasks` with the recipe's own keys for it, and the recipe's file.

    Keys whose value is or has what is wrong come alone; else all that the step was made from.
    """
    if error.key is None or "*" not in error.key:
        return error
    keys = [key for key in job.recipe_values if fnmatch(key, error.key)]
    guilty = [key for key in keys if isinstance(job.recipe_values[key], list) and error.value in job.recipe_values[key]]
    key = ", ".join(guilty or keys) or error.key
    places = (Path("config/recipes") / f"{job.recipe}.yaml", Path("examples") / job.recipe / "recipe.yaml")
    at = error.file or next((file for file in places if file.is_file()), f"the recipe {job.recipe}")
    told = UserError(error.what, file=at, key=key, value=error.value, remedy=error.remedy)
    told.line = error.line
    return told


def tell_time_limit() -> None:
    """Set SLURM_JOB_END_TIME where Slurm is too old to do so (before 23.02): a training stops in time before it."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or "SLURM_JOB_END_TIME" in os.environ:
        return
    try:
        done = subprocess.run(["squeue", "-h", "-j", job, "-o", "%e"], capture_output=True, text=True, timeout=30)
        os.environ["SLURM_JOB_END_TIME"] = str(int(datetime.fromisoformat(done.stdout.strip()).timestamp()))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        print("Slurm does not tell this job's time limit: it will not stop before it by itself", file=sys.stderr)
