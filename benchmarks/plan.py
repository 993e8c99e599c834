"""What the plan adds to Snakemake: the dry run of a large recipe, a run with nothing to do, and a job's start-up.

    python benchmarks/plan.py [--recipe smollm3] [--repeats 3] [--check]

Everything runs in a temporary folder, beside a generated graph of as many jobs of the same form: sources, shards,
mixtures, one chain of segments, evaluations and suites of each, and a page that takes them all; plain wildcards, logs,
threads and resources, and none of what the rules of smolmake add (identities, parameters, environments, the plan at the
end). It prints nothing of its jobs either. Runs of the two alternate. A job's start-up is Snakemake with the inner
options of its executors, on one job whose script only writes its manifest.

Wall and CPU seconds are medians. The machine should be idle: the table says what the load was. With --check the exit
code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from smolmake.planning.workflow import Workflow, load_workflow  # noqa: E402

PARTS = ("Snakefile", "workflow", "config", "profiles", "src", "envs", "examples")
MOST_RATIO, MOST_DRY, MOST_NOTHING, MOST_START = 1.5, 10.0, 6.0, 2.0  # the last three in seconds; DRY for 5,000 jobs
LOCAL = ("--workflow-profile", "profiles/local")
STUB = '''\
"""Write the manifest of a step and nothing else: only for benchmarks/plan.py."""

import sys
from pathlib import Path

job = Path(sys.argv[1])
folder = Path("results", job.parent.name, job.stem)
folder.mkdir(parents=True, exist_ok=True)
(folder / "manifest.json").write_text("{}")
'''
BARE = '''\
from pathlib import Path

SOURCES, MIXTURES, SEGMENTS, EVALUATIONS, SUITES = {counts}


def of_segments(kind, count):
    """`count` names, each of one of the segments, shared out evenly."""
    return [f"{{kind}}/{{k * SEGMENTS // count}}-{{k}}.txt" for k in range(count)]


rule all:
    input:
        "page.txt",
{rules}
'''
BARE_RULES = (
    ("documents", "", "documents/{name}.txt"),
    ("shards", '"documents/{name}.txt",', "shards/{name}.txt"),
    ("mixture", '[f"shards/{k}.txt" for k in range(SOURCES)],', "mixture/{name}.txt"),
    (
        "segment",
        '"mixture/0.txt",\n        lambda w: f"segment/{int(w.name) - 1}.txt" if int(w.name) else [],',
        "segment/{name}.txt",
    ),
    ("evaluation", '"segment/{segment}.txt",\n        "documents/0.txt",', "evaluation/{segment}-{name}.txt"),
    ("suite", '"segment/{segment}.txt",', "suite/{segment}-{name}.txt"),
    (
        "page",
        '[f"mixture/{k}.txt" for k in range(MIXTURES)],\n        [f"segment/{k}.txt" for k in range(SEGMENTS)],\n'
        '        of_segments("evaluation", EVALUATIONS),\n        of_segments("suite", SUITES),',
        "page.txt",
    ),
)
RULE = """

rule {name}:
    input:
        {inputs}
    output:
        "{output}",
    log:
        "logs/{output}",
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    shell:
        "touch {{output}} > {{log}} 2>&1"
"""


@dataclass
class Runs:
    """Runs of one command: its seconds of wall-clock and of CPU, and the load of the machine before each."""

    name: str
    command: list[str]
    folder: Path
    prepare: Callable[[], None] = lambda: None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Run it once; ends the program if it fails."""
        self.prepare()
        self.load.append(os.getloadavg()[0])
        before, started = os.times(), time.monotonic()
        done = subprocess.run(self.command, cwd=self.folder, capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": str(self.folder / "src")})  # fmt: skip
        self.wall.append(time.monotonic() - started)
        after = os.times()
        self.cpu.append(after.children_user - before.children_user + after.children_system - before.children_system)
        if done.returncode != 0:
            sys.exit(f"{' '.join(self.command)} failed in {self.folder}:\n{done.stdout}{done.stderr}"[-4000:])

    @property
    def row(self) -> str:
        low, high = min(self.wall), max(self.wall)
        return (
            f"{self.name:<34}{statistics.median(self.wall):>7.2f}{low:>7.2f}{high:>7.2f}"
            f"{statistics.median(self.cpu):>7.2f}{max(self.load):>7.1f}"
        )


def median_of(runs: Runs) -> float:
    return statistics.median(runs.wall)


def copy_tree(place: Path) -> Path:
    """The workflow without results, its suites and evaluations replaced by a script that only writes a manifest."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, place / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place / part)
    (place / "workflow" / "scripts" / "evaluation.py").write_text(STUB)
    return place


def write_bare(place: Path, workflow: Workflow) -> int:
    """A Snakefile for a graph of the plan's form; returns its number of jobs, which is the plan's."""
    count = {kind: len(workflow.steps.of_kind(kind)) for kind in ("documents", "mixture", "segment", "suite")}
    others = 2 * count["documents"] + count["mixture"] + count["segment"] + count["suite"] + 2
    evaluations = jobs_of(workflow) - others
    counts = (count["documents"], count["mixture"], count["segment"], evaluations, count["suite"])
    rules = "".join(RULE.format(name=name, inputs=inputs, output=output) for name, inputs, output in BARE_RULES)
    place.mkdir()
    (place / "Snakefile").write_text(BARE.format(counts=counts, rules=rules))
    return others + evaluations


def jobs_of(workflow: Workflow) -> int:
    """Snakemake's jobs for a plan: its steps, the links to them, and the target `all`."""
    return len(workflow.steps.all) + 2


def finish(tree: Path, workflow: Workflow) -> None:
    """Let every step of a plan be done, as far as the graph can see."""
    for output in [*(step.manifest for step in workflow.steps.all.values()), workflow.links]:
        file = tree / output
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")


def finish_bare(bare: Path, outputs: list[str]) -> None:
    for output in outputs:
        file = bare / output
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for output in outputs:
        os.utime(bare / output, (1e9, 1e9))


def inner(rule: str, wildcards: str, *config: str) -> list[str]:
    """The command by which an executor's job runs one job of the graph; see format_job_exec of its interface."""
    options = (
        "--snakefile Snakefile --cores 1 --attempt 1 --force-use-threads --force --target-files-omit-workdir-adjustment"
        " --max-inventory-time 0 --retries 0 --nocolor --no-hooks --nolock --ignore-incomplete"
        " --rerun-triggers software-env --latency-wait 5 --scheduler greedy --mode remote"
    )
    target = ["--target-jobs", f"{rule}:{wildcards}", "--allowed-rules", rule]
    return [sys.executable, "-m", "snakemake", *options.split(), *target, *config]


def alternate(repeats: int, *runs: Runs) -> None:
    for _ in range(repeats):
        for each in runs:
            each.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="smollm3")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smolmake-plan-") as scratch:
        missed = measure(arguments.recipe, arguments.repeats, Path(scratch))
    sys.exit(1 if arguments.check and missed else 0)


def measure(recipe: str, repeats: int, scratch: Path) -> bool:
    """Run everything, print the table, and say whether a target is missed."""
    tree, bare = copy_tree(scratch / "smolmake"), scratch / "bare"
    workflow = load_workflow(recipe, tree)
    jobs = write_bare(bare, workflow)
    snakemake, config = str(Path(sys.executable).with_name("snakemake")), ("--config", f"recipe={recipe}")
    cores, quiet = ("--cores", "all"), ("--quiet", "rules", "progress")
    dry = Runs(f"dry run of {recipe}", [snakemake, *LOCAL, *config, "-n"], tree)
    bare_dry = Runs("dry run, bare", [snakemake, *cores, *quiet, "-n"], bare)
    alternate(repeats, dry, bare_dry)

    finish(tree, workflow)
    finish_bare(bare, bare_outputs(bare, snakemake))
    idle = Runs("nothing to do", [snakemake, *LOCAL, *config], tree)
    bare_idle = Runs("nothing to do, bare", [snakemake, *cores, *quiet], bare)
    alternate(repeats, idle, bare_idle)

    step = workflow.steps.of_kind("evaluation")[-1]
    job = Runs("a job's start-up", inner("evaluation", f"kind=evaluation,step={step.name}-{step.id}", *config), tree)
    bare_job = Runs("a job's start-up, bare", inner("evaluation", "segment=0,name=0"), bare)
    alternate(repeats, job, bare_job)

    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{jobs:,} jobs each; {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; load {load}")
    print(f"{'seconds':<34}{'median':>7}{'least':>7}{'most':>7}{'CPU':>7}{'load':>7}")
    for runs in (dry, bare_dry, idle, bare_idle, job, bare_job):
        print(runs.row)
    cpu = statistics.median(dry.cpu) / statistics.median(bare_dry.cpu)
    results = [
        (f"dry run, times bare (by CPU {cpu:.2f})", median_of(dry) / median_of(bare_dry), MOST_RATIO),
        ("dry run, seconds for 5,000 jobs", median_of(dry) * 5000 / jobs, MOST_DRY),
        ("nothing to do, seconds", median_of(idle), MOST_NOTHING),
        ("start-up over bare, seconds", median_of(job) - median_of(bare_job), MOST_START),
    ]
    print(f"\n{'target':<41}{'found':>7}{'most':>7}")
    for name, found, most in results:
        print(f"{name:<41}{found:>7.2f}{most:>7.1f}{'' if found <= most else '  MISSED'}")
    return any(found > most for _, found, most in results)


def bare_outputs(bare: Path, snakemake: str) -> list[str]:
    """All files of the bare graph, as Snakemake lists them."""
    done = subprocess.run(
        [snakemake, "--cores", "1", "--summary"], cwd=bare, capture_output=True, text=True, check=True
    )
    return [line.split("\t")[0] for line in done.stdout.splitlines() if ".txt\t" in line]


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
