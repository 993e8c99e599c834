"""A training on two nodes of a real Slurm that something breaks every minute. Usage, as root:

    .venv/bin/python tools/slurm_cluster.py run .venv/bin/python tests/slurm/chaos.py --minutes 20 --seed 1

The run is compared with an undisturbed one on this machine without Slurm: every manifest, and so every weight, has to
be the same. The table it prints: faults by kind with the time from the fault to the twentieth new step, the goodput
(the share of the wall-clock time that became kept training steps), and jobs sent.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
from helpers.slurm_cluster import Controller, Training, daemons, jobs_sent, runs, training_processes, wait_until
from helpers.workflow_runs import TWO_NODES, copy_tree, succeed, workflow_of, write_notes

from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.monitoring.metrics import read_metrics

GOODPUT = 0.8  # more than is reached, so that the training lasts longer than the faults
TRIAL = 1000  # steps, by which the machine's speed is taken
NEW_STEPS = 20
CALM, ON_SLURM = "{nodes: 1, gpus_per_node: 2}", "{nodes: 2, gpus_per_node: 1}"


class Chaos:
    def __init__(self, tree: Path, recipe: str, seed: int, every: float) -> None:
        self.tree, self.recipe, self.random, self.every = tree, recipe, random.Random(seed), every
        self.segments = workflow_of(tree, recipe).steps.of_kind("segment")
        self.times: dict[str, list[float]] = defaultdict(list)
        self.trouble: list[str] = []
        self.controllers = [Controller(tree, ("pretrain",), recipe)]

    @property
    def controller(self) -> Controller:
        return self.controllers[-1]

    def run(self, minutes: float) -> float:
        """Disturb the run for so long, then let it end; gives the seconds that it took."""
        began = time.monotonic()
        faults = [self.controller_killed, self.rank_killed, self.rank_stopped, self.requeued, self.no_controller,
                  self.no_accounting, self.node_lost, self.second_controller, self.checkpoint_damaged,
                  self.time_limit]  # fmt: skip
        queue: list[Callable[[], None]] = []
        while time.monotonic() - began < minutes * 60 and not self.done:
            if not self.wait_for_progress(self.step + 40):
                break
            wait_until(lambda: self.done or self.saved, "a recovery checkpoint", 120)
            queue = queue or self.random.sample(faults, len(faults))
            fault = queue.pop()
            name, before, at = fault.__name__.replace("_", " "), self.step, time.monotonic()
            print(f"{at - began:6.0f} s  step {before:6d}  {name}", flush=True)
            fault()
            self.keep_alive()
            if self.wait_for_progress(before + NEW_STEPS):
                self.times[name].append(time.monotonic() - at)
            wait_until(lambda at=at: self.done or time.monotonic() - at > self.every, "the next minute")
        while self.controller.process.poll() is None:
            time.sleep(0.5)
        self.keep_alive()
        self.controller.succeed()
        return time.monotonic() - began

    @property
    def step(self) -> int:
        """The last step of the run that is in a metrics file."""
        for segment in reversed(self.segments):
            file = (self.tree / segment.manifest).with_name("metrics.jsonl")
            if file.exists() and (lines := file.read_text().splitlines()):
                try:
                    return int(json.loads(lines[-1])["step"])
                except ValueError:
                    return int(json.loads(lines[-2])["step"]) if len(lines) > 1 else 0
        return 0

    @property
    def done(self) -> bool:
        return (self.tree / self.segments[-1].manifest).exists()

    @property
    def saved(self) -> bool:
        """Whether the segment that trains has a recovery checkpoint: without any, a failure is final (retries: 0)."""
        try:
            return any((self.training.folder / "recovery").glob("step-*"))
        except LookupError:
            return False

    def wait_for_progress(self, step: int) -> bool:
        """Wait for a step; False if the run ended first."""

        def there() -> bool:
            self.keep_alive()
            return self.done or self.step >= step

        wait_until(there, f"step {step}", 600)
        return not self.done

    def keep_alive(self) -> None:
        """Start Snakemake again if it gave up, and note that: it should not have."""
        if self.controller.process.poll() not in (None, 0):
            self.trouble.append(self.controller.said[-2000:])
            print(f"          Snakemake gave up and is started again. It said:\n{self.trouble[-1]}", flush=True)
            self.start()

    def start(self) -> None:
        self.controllers.append(Controller(self.tree, ("pretrain",), self.recipe))

    @property
    def training(self) -> Training:
        """The segment that trains now."""
        for segment in reversed(self.segments):
            found = Training(self.tree, self.tree, segment, self.controller, self.recipe)
            if found.ranks():
                return found
        raise LookupError("no segment trains")

    # Faults

    def controller_killed(self) -> None:
        self.controller.kill()
        self.start()

    def rank_killed(self) -> None:
        self.signal_rank(signal.SIGKILL)

    def rank_stopped(self) -> None:
        self.signal_rank(signal.SIGSTOP)

    def signal_rank(self, number: int) -> None:
        ranks = self.training.ranks()
        os.kill(ranks[self.random.choice(sorted(ranks))], number)

    def requeued(self) -> None:
        daemons.output("scontrol", "requeue", self.training.job)

    def no_controller(self) -> None:
        daemons.end_process(daemons.STATE / "slurmctld.pid")
        time.sleep(self.random.choice([10, 30, 120]))
        daemons.start_slurmctld()

    def no_accounting(self) -> None:
        daemons.end_process(daemons.STATE / "slurmdbd.pid")
        self.signal_rank(signal.SIGKILL)
        time.sleep(20)
        daemons.start_daemon("slurmdbd")

    def node_lost(self) -> None:
        job = self.training.job
        nodes = daemons.output("squeue", "-h", "-j", job, "-o", "%N")
        node = self.random.choice(daemons.output("scontrol", "show", "hostnames", nodes).split())
        daemons.end_process(daemons.STATE / f"slurmd-{node}.pid", signal.SIGKILL)
        self.signal_rank(signal.SIGKILL)
        daemons.output("scontrol", "update", f"nodename={node}", "state=down", "reason=chaos")
        time.sleep(15)
        daemons.start_slurmd(node)
        daemons.output("scontrol", "update", f"nodename={node}", "state=resume")

    def second_controller(self) -> None:
        first = self.controller
        self.start()
        time.sleep(15)
        first.kill()

    def checkpoint_damaged(self) -> None:
        places = sorted((self.training.folder / "recovery").glob("step-*"))
        for file in places[-1].rglob("*.safetensors") if places else []:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        self.signal_rank(signal.SIGKILL)

    def time_limit(self) -> None:
        job = self.training.job
        daemons.output("scontrol", "update", f"jobid={job}", "EndTime=now+3")
        ends = {"TIMEOUT", "COMPLETED"}  # Slurm looks at limits every half minute: the segment may end before
        state = ("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")
        wait_until(lambda: daemons.output(*state) in ends, "the time limit", 120)


def recipe_of(tree: Path, steps: int, layouts: str) -> str:
    """two_nodes.yaml with one long stage, in `tree`."""
    text = (tree / TWO_NODES).read_text()
    head, rest = text.split("  segment_steps:")[0], "  schedule: {lr: 1e-3, warmup_steps: 2}\n"
    rest += f"  stages:\n    - {{name: stage1, steps: {steps}, mixture: {{notes: 1}}}}\n"
    run = f"runtime:\n  device: cpu\n  recovery_every: 1s\n  layouts: {{stage1: {layouts}}}\n"
    path = tree / "chaos.yaml"
    limits = text.split("sources:")[1].split("}")[0]
    head = head.replace("sources:" + limits + "}", f"sources:{limits}, max_epochs: 1000}}")
    path.write_text(f"{head}  segment_steps: {-(-steps // 4)}\n{rest}{run}")
    return path.name


def seconds_a_step(tree: Path) -> float:
    """The median of an undisturbed training's steps on this machine alone."""
    recipe = recipe_of(tree, TRIAL, CALM)
    succeed(tree, "pretrain", recipe=recipe)
    metrics = (tree / workflow_of(tree, recipe).steps.of_kind("segment")[-1].manifest).with_name("metrics.jsonl")
    return statistics.median(json.loads(line)["seconds"] for line in metrics.open())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="how long faults go on")
    parser.add_argument("--every", type=float, default=60, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not runs():
        sys.exit("error: no cluster runs: python tools/slurm_cluster.py start")
    place = Path(tempfile.mkdtemp(prefix="chaos-"))
    calm = copy_tree(place / "calm")
    write_notes(calm, 300)
    steps = int(arguments.minutes * 60 * GOODPUT / seconds_a_step(calm))
    print(f"{steps} steps, undisturbed, on this machine alone", flush=True)
    began = time.monotonic()
    recipe = recipe_of(calm, steps, CALM)
    succeed(calm, "pretrain", recipe=recipe)
    print(f"took {time.monotonic() - began:.0f} s; now on Slurm, with faults", flush=True)
    tree = place / "tree"
    shutil.copytree(calm, tree, ignore=shutil.ignore_patterns("segment", ".snakemake"))
    chaos = Chaos(tree, recipe_of(tree, steps, ON_SLURM), arguments.seed, arguments.every)
    seconds = chaos.run(arguments.minutes)
    tell(chaos, calm, seconds)
    shutil.rmtree(place)
    sys.exit(1 if chaos.trouble else 0)


def tell(chaos: Chaos, calm: Path, seconds: float) -> None:
    """Print the table; end with an error if anything differs from the undisturbed run or is left over."""
    kept = 0.0
    for segment in chaos.segments:
        ours, theirs = ((tree / segment.manifest).read_bytes() for tree in (chaos.tree, calm))
        assert ours == theirs, f"{segment.key} differs from the undisturbed run"
        span = segment.spec_as(SegmentSpec)
        lines = read_metrics((chaos.tree / segment.manifest).with_name("metrics.jsonl"))
        assert [line["step"] for line in lines] == list(range(span.start, span.end))
        kept += sum(line["seconds"] for line in lines)
        assert not list(training_processes(chaos.tree, f"{segment.name}-{segment.id}")), "an orphan is left"
    sent = len(jobs_sent(chaos.tree, "JobID"))
    print(f"\n{'fault':22} {'times':>5} {'median s':>9} {'worst s':>8}")
    for name, times in sorted(chaos.times.items()):
        print(f"{name:22} {len(times):5d} {statistics.median(times):9.0f} {max(times):8.0f}")
    count = sum(map(len, chaos.times.values()))
    print(f"{count} faults in {seconds / 60:.1f} minutes, {sent} Slurm jobs for {len(chaos.segments)} segments")
    print(f"goodput {kept / seconds:.2f}: {kept:.0f} s of kept training steps in {seconds:.0f} s")
    print(f"Snakemake gave up {len(chaos.trouble)} times")
    print("every manifest is that of the undisturbed run; no process and no job is left")


if __name__ == "__main__":
    main()
