"""What every script of workflow/scripts shares: its one argument, its errors, its manifest."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolmake.errors import UserError, run_as_program
from smolmake.files import write_json
from smolmake.identity.fingerprint import code_definitions, code_fingerprint
from smolmake.identity.manifest import MANIFEST, RECORD, read_manifest, verify_payload, write_manifest
from smolmake.parts import Valid, Work, do_parts, helpers, part_payload


@dataclass(frozen=True)
class Job:
    """One step to compute: what it is (spec), what it reads (inputs: role -> manifest), how it runs (run).

    `origin` is the slice of the recipe it was made from, `meaning` its identity without the code, `code` the
    fingerprint of the code that its id was made with, `recipe` the name of the recipe that asked for it.
    """

    kind: str
    name: str
    id: str
    folder: Path
    spec: dict[str, Any]
    inputs: dict[str, Path]
    run: dict[str, Any]
    origin: dict[str, Any] = field(default_factory=dict)
    meaning: str = ""
    code: str = ""
    recipe: str = ""
    started: float = field(default_factory=time.time)
    workers: int = 1
    helper: tuple[int, int] | None = None

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
            UserError: if the code is no longer what the graph was laid out with.
        """
        if self.code and self.code != code_fingerprint(script):
            raise UserError(
                "the code has changed since this run started: what it computes now would not be what its path says",
                file=script, key="step", value=f"{self.kind}/{self.name}",
                remedy="run the same command again: what is still valid is kept",
            )  # fmt: skip
        record = {
            "spec": self.spec,
            "origin": self.origin,
            "meaning": self.meaning,
            "inputs": {role: f"{path.parts[-3]}/{path.parts[-2]}" for role, path in self.inputs.items()},
            "code": code_definitions(script),
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

    def finish_parts(self, count: int, payload: list[str], facts: dict[str, Any]) -> None:
        """As `finish`, with the files of all parts as payload, whose hashes are known already."""
        self.finish(payload, facts, part_payload(self.folder, count))

    def finish(self, payload: list[str], facts: dict[str, Any], known: dict[str, Any] | None = None) -> None:
        """Write the manifest over the payload (files or folders under the step's folder): the step is done."""
        files: list[Path] = []
        for name in payload:
            path = self.folder / name
            files += [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        step = {"kind": self.kind, "name": self.name, "id": self.id}
        layout = self.run.get("layout") or {}
        gpus = layout.get("nodes", 1) * layout.get("gpus_per_node", 0)
        about = {"recipe": self.recipe, "gpus": gpus}
        write_manifest(self.folder, step, self.inputs, files, facts, self.started, known, about)
        print(f"{self.kind}/{self.name}-{self.id}: done in {time.time() - self.started:.1f} s", file=sys.stderr)


@contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock, which the system frees when its holder ends, however it ends.

    Waits while another process has it, as after a kill of Snakemake that left its jobs running. Gives True if it had
    to wait: the other one may have finished the step.
    """
    with (folder / ".lock").open("w") as file:
        waited = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that computes {folder.name}", file=sys.stderr, flush=True)
            waited = True
            fcntl.flock(file, fcntl.LOCK_EX)
        yield waited


def stay_offline() -> None:
    """Switch the Hugging Face hub off, unless the job of the command line reads from it.

    To be called before a library of theirs is imported: they read the environment once.
    """
    if len(sys.argv) < 2 or '"hub":' not in sys.argv[1]:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def run_step(compute: Callable[[Job], None], usage: str) -> None:
    """Parse the command line `SCRIPT JOB`, where JOB is JSON as the rules write it, and compute the step."""

    def main() -> None:
        parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("job", help="JSON with kind, name, id, folder, spec, inputs, run; see docs/artefacts.md")
        parser.add_argument("--workers", type=int, default=1, help="processes for a step that is done in parts")
        parser.add_argument(
            "--helper", type=int, nargs=2, metavar=("I", "N"), help="only help with the parts, beginning at I / N"
        )
        arguments = parser.parse_args()
        values = json.loads(arguments.job)
        inputs = {role: Path(path) for role, path in values.pop("inputs").items()}
        helper = tuple(arguments.helper) if arguments.helper else None
        values |= {"folder": Path(values["folder"]), "inputs": inputs, "workers": arguments.workers, "helper": helper}
        job = Job(**values)
        job.folder.mkdir(parents=True, exist_ok=True)
        if job.helper is not None:
            if not (job.folder / MANIFEST).exists():
                compute(job)
            return
        if os.environ.get("RANK", "0") != "0":  # one of several processes: the first holds the lock and the manifest
            compute(job)
            return
        with only_one(job.folder) as waited:
            if waited and (job.folder / MANIFEST).exists():
                verify_payload(job.folder / MANIFEST)
                return
            (job.folder / MANIFEST).unlink(missing_ok=True)
            job.record_identity(Path(sys.argv[0]).resolve())
            compute(job)

    run_as_program(main)
