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

from smolmake.errors import run_as_program
from smolmake.identity.manifest import MANIFEST, read_manifest, verify_payload, write_manifest


@dataclass(frozen=True)
class Job:
    """One step to compute: what it is (spec), what it reads (inputs: role -> manifest), how it runs (run)."""

    kind: str
    name: str
    id: str
    folder: Path
    spec: dict[str, Any]
    inputs: dict[str, Path]
    run: dict[str, Any]
    started: float = field(default_factory=time.time)

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

    def finish(self, payload: list[str], facts: dict[str, Any]) -> None:
        """Write the manifest over the payload (files or folders under the step's folder): the step is done."""
        files: list[Path] = []
        for name in payload:
            path = self.folder / name
            files += [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        step = {"kind": self.kind, "name": self.name, "id": self.id}
        write_manifest(self.folder, step, self.inputs, files, facts, self.started)
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


def run_step(compute: Callable[[Job], None], usage: str) -> None:
    """Parse the command line `SCRIPT JOB`, where JOB is JSON as the rules write it, and compute the step."""

    def main() -> None:
        parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("job", help="JSON with kind, name, id, folder, spec, inputs, run; see docs/artefacts.md")
        values = json.loads(parser.parse_args().job)
        inputs = {role: Path(path) for role, path in values.pop("inputs").items()}
        job = Job(**{**values, "folder": Path(values["folder"]), "inputs": inputs})
        job.folder.mkdir(parents=True, exist_ok=True)
        if os.environ.get("RANK", "0") != "0":  # one of several processes: the first holds the lock and the manifest
            compute(job)
            return
        with only_one(job.folder) as waited:
            if waited and (job.folder / MANIFEST).exists():
                verify_payload(job.folder / MANIFEST)
                return
            (job.folder / MANIFEST).unlink(missing_ok=True)
            compute(job)

    run_as_program(main)
