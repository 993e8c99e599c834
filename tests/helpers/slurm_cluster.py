"""Runs on the real Slurm of tools/slurm_cluster.py, and what can go wrong with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from helpers.workflow_runs import ROOT, SNAKEMAKE, TWO_NODES, workflow_of
from smolmake.execution.step import Step
from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.monitoring.metrics import read_metrics

sys.path.insert(0, str(ROOT / "tools"))
import slurm_cluster as daemons

WAIT = 300.0
SITE = {
    "smolmake-slurm-account": "lab",
    "smolmake-slurm-cpu-partition": "cpu",
    "smolmake-slurm-gpu-partition": "gpu",
    "smolmake-slurm-gpu-type": "h100",
    "smolmake-slurm-hung-after": "20",
    "smolmake-slurm-lost-after": "10",
    "smolmake-slurm-requeue-wait": "10",
    "seconds-between-status-checks": "1",
    "latency-wait": "5",
    "retries": "0",  # so that what comes through has used none
}


def runs() -> bool:
    """Whether the cluster for tests is up: nothing here touches another Slurm."""
    return daemons.STATE.is_dir() and daemons.succeeds("scontrol", "ping")


def wait_until(condition: Callable[[], bool], what: str, limit: float = WAIT, pause: float = 0.1) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {limit:.0f} s"
        time.sleep(pause)


@dataclass
class Controller:
    """A Snakemake that runs in a tree; `arguments` are targets and options."""

    tree: Path
    arguments: tuple[str, ...]
    recipe: str = TWO_NODES
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.tree / f"controller-{time.monotonic_ns()}.txt"
        options = [f"--{key}={value}" for key, value in SITE.items()]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(SNAKEMAKE), "--profile", "profiles/slurm", *options, *self.arguments]
                + ["--config", f"recipe={self.recipe}"],
                cwd=self.tree,
                env={**os.environ, "PYTHONPATH": str(self.tree / "src"), "SMOLMAKE_HEARTBEAT": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def succeed(self) -> str:
        assert self.process.wait(timeout=WAIT) == 0, self.said[-5000:]
        return self.said


@dataclass
class Training:
    """A segment that trains on two nodes, in a tree whose data is done."""

    tree: Path
    reference: Path
    step: Step
    controller: Controller
    recipe: str = TWO_NODES

    @property
    def folder(self) -> Path:
        return (self.tree / self.step.manifest).parent

    @property
    def steps_done(self) -> int:
        metrics = self.folder / "metrics.jsonl"
        return metrics.read_text().count("\n") if metrics.exists() else 0

    def wait_for_steps(self, count: int) -> None:
        def there() -> bool:
            assert self.controller.process.poll() is None, self.controller.said[-5000:]
            return self.steps_done >= count

        wait_until(there, f"step {count}")

    def wait_for_recovery(self) -> None:
        """Wait for the first recovery checkpoint, so that whatever happens next finds progress."""
        self.wait_for_steps(10)
        wait_until(lambda: any((self.folder / "recovery").glob("step-*")), "a recovery checkpoint")

    def wait_for_progress(self) -> None:
        """Wait until the job that runs now has trained and kept a recovery checkpoint of its own."""
        there = set((self.folder / "recovery").glob("step-*"))
        self.wait_for_steps(self.steps_done + 5)
        wait_until(lambda: bool(set((self.folder / "recovery").glob("step-*")) - there), "another recovery checkpoint")

    @property
    def job(self) -> str:
        """The id of the Slurm job that computes the segment now."""
        jobs = self.jobs("PD,R,CG,CF")
        assert len(jobs) == 1, jobs
        return jobs[0]

    def jobs(self, states: str = "all") -> list[str]:
        """The Slurm jobs of the segment in this tree."""
        said = daemons.output("squeue", "-h", "-t", states, "-o", "%i|%Z|%k")
        rows = [line.split("|") for line in said.splitlines()]
        wanted = f"{self.step.name}-{self.step.id}"
        return [row[0] for row in rows if row[1] == str(self.tree) and row[2].endswith(wanted)]

    def ranks(self) -> dict[int, int]:
        """Process ids of the training's ranks."""
        found = {}
        for pid, rank in training_processes(self.tree, self.folder.name):
            found[rank] = pid
        return found

    def signal_at_the_end(self, number: int) -> None:
        """Send a signal to rank 1 as soon as the manifest is there, before the job has ended."""
        wait_until(lambda: set(self.ranks()) == {0, 1}, "both ranks")
        rank = self.ranks()[1]
        wait_until((self.tree / self.step.manifest).exists, "the manifest", pause=0.005)
        os.kill(rank, number)

    def again(self) -> Controller:
        self.controller = Controller(self.tree, (self.step.manifest,), self.recipe)
        return self.controller

    def check(self) -> None:
        """The run ends well, in the bits of the undisturbed one, and leaves nothing behind."""
        self.controller.succeed()
        wait_until((self.reference / self.step.manifest).exists, "the undisturbed run's segment")
        ours, theirs = (json.loads((tree / self.step.manifest).read_text()) for tree in (self.tree, self.reference))
        assert ours == theirs
        steps = [line["step"] for line in read_metrics(self.folder / "metrics.jsonl")]
        span = self.step.spec_as(SegmentSpec)
        assert steps == list(range(span.start, span.end))
        wait_until(lambda: not self.jobs("PD,R,CG,CF"), "the end of all jobs", 60)
        wait_until(lambda: not list(training_processes(self.tree, self.folder.name)), "the end of all processes", 60)
        assert not (self.folder / "recovery").exists() and not (self.folder / "lease.json").exists()


def training_processes(tree: Path, step: str) -> Iterator[tuple[int, int]]:
    """Process id and rank of every process that computes a segment of this name in a tree."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            _, script, *job = (place / "cmdline").read_bytes().decode().rstrip("\0").split("\0")[:3]
            if not script.endswith("segment.py") or Path(job[0]).stem != step:
                continue
            if (place / "cwd").readlink() == tree.resolve():
                variables = (place / "environ").read_bytes().decode().split("\0")
                rank = next((line for line in variables if line.startswith("RANK=")), "RANK=0")
                yield int(place.name), int(rank.removeprefix("RANK="))
        except (OSError, ValueError):
            continue


def jobs_sent(tree: Path, columns: str) -> list[list[str]]:
    """What the accounting has in `columns` of each job that was sent from a tree; of a day, not since midnight."""
    said = daemons.output("sacct", "-X", "-n", "-P", "-S", "now-1days", "-o", f"WorkDir,{columns}")
    rows = [line.split("|") for line in said.splitlines()]
    return [row[1:] for row in rows if row[0] == str(tree)]


def step_of(tree: Path, recipe: str = TWO_NODES) -> Step:
    """The first segment: the one on two nodes."""
    return workflow_of(tree, recipe).steps.of_kind("segment")[0]
