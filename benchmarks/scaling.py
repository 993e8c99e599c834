"""How training and post-training scale over the GPUs of one node: the whole set in one command, within a time.

    python benchmarks/scaling.py [--out results.jsonl] [--gpus 1 2 4 8] [--only shared sft] [--minutes 9.5] [--dry]

The parts, in the order in which they run:
    single    one GPU: 1B and 3B, bf16 and float8; the cases of one GPU run side by side, one on each
    shared    ddp, fsdp, zero2, zero1 and hsdp at sequence 4096, with the time in communication
    posttrain SFT (packed, 32k) and APO of the 3B with ZeRO-3, and on one GPU
    long      65,536 tokens on one GPU
    context   65,536 tokens with context parallelism over all GPUs
    saving    a recovery checkpoint in the background: seconds of training lost, GB/s
    drills    the preflight of each layout: machine, save and resume, parity with one GPU

The most GPUs come first. Before the start it prints what will run, with estimated minutes. Cases that would end after
--minutes are not started, and one that is not done by then is ended. Each case gives its row of --out as soon as it is
measured; one that failed gives a row with the reason, and the rest goes on. At the end the rows stand in a .json
beside, with machine and date: benchmarks/scaling_results.py makes the table and the figure of it.

`--tiny` measures tiny models on CPUs with gloo, which says nothing about speed and tries everything.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling_cases import DRILLS, FULL, PARTS, TINY, Cases, preflight_job
from scaling_results import table

ROOT = Path(__file__).parents[1]
TRAIN, POSTTRAIN, PREFLIGHT = "benchmarks/train.py", "benchmarks/posttrain.py", "workflow/scripts/preflight.py"
START = 0.5  # minutes to start Python and NCCL


@dataclass(frozen=True)
class Job:
    """Launches one after the other on `gpus` devices, or on the one named. Each has its cases and its arguments."""

    part: str
    gpus: int
    each: float  # minutes of a case
    script: str
    launches: list[tuple[list[str], list[str]]]
    device: int | None = None

    @property
    def minutes(self) -> float:
        return sum(START + self.each * len(texts) for texts, _ in self.launches)


@dataclass
class Bench:
    """What all jobs share: the cases, where rows go, and until when."""

    cases: Cases
    out: Path
    folder: Path
    tiny: bool
    end: float
    rows: list[dict[str, Any]] = field(default_factory=list)

    def jobs(self, counts: list[int], parts: list[str]) -> list[list[Job]]:
        """The jobs in their order; those of one list run side by side."""
        largest, found = max(counts), list[list[Job]]()
        more = [n for n in counts if n > 1]
        if 1 in counts:
            found += [self._side_by_side(part, largest) for part in ("single", "long") if part in parts]
            if "posttrain" in parts:
                found.append([self._posttrain(1, None if self.tiny else 0)])
        for part in ("shared", "context"):
            if part in parts:
                found += [[self._train(part, gpus)] for gpus in more if self._texts(part, gpus)]
        if "posttrain" in parts:
            found += [[self._posttrain(gpus)] for gpus in more]
        if "saving" in parts:
            found.append([self._train("saving", largest)])
        if "drills" in parts:
            found += [[self._drills(gpus)] for gpus in more]
        order = list(PARTS)
        found = [jobs for jobs in found if jobs]
        return sorted(found, key=lambda jobs: (order.index(jobs[0].part), -jobs[0].gpus))

    def _texts(self, part: str, gpus: int) -> list[str]:
        texts: list[str] = getattr(self.cases, part)
        return [text.format(gpus=gpus) for text in texts if "hsdp" not in text or gpus > 2]

    def _side_by_side(self, part: str, devices: int) -> list[Job]:
        texts = self._texts(part, 1)
        places = [texts[device :: 1 if self.tiny else devices] for device in range(1 if self.tiny else devices)]
        return [self._train(part, 1, own, None if self.tiny else k) for k, own in enumerate(places) if own]

    def _train(self, part: str, gpus: int, texts: list[str] | None = None, device: int | None = None) -> Job:
        texts = self._texts(part, gpus) if texts is None else texts
        options = ["--steps", str(self.cases.steps[part]), "--warm", "2", "--out", str(self.out)]
        options += ["--device", "cpu"] if self.tiny else []
        options += ["--profile"] if part == "shared" else []
        options += ["--save", str(self.folder / "saving")] if part == "saving" else []
        return Job(part, gpus, self.cases.minutes[part], TRAIN, [(texts, options)], device)

    def _posttrain(self, gpus: int, device: int | None = None) -> Job:
        """A launch a case: accelerate and DeepSpeed are set up once in a process."""
        options = ["--folder", str(self.folder / "weights"), "--out", str(self.out)]
        options += ["--device", "cpu"] if self.tiny else []
        launches = [([text], options) for text in self.cases.posttrain]
        return Job("posttrain", gpus, self.cases.minutes["posttrain"], POSTTRAIN, launches, device)

    def _drills(self, gpus: int) -> Job:
        launches = []
        for strategy, context in DRILLS:
            if gpus % context == 0 and (strategy != "hsdp" or gpus > 2):
                job = preflight_job(strategy, context, gpus, self.folder, self.tiny)
                file = self.folder / f"preflight-{gpus}-{job['name']}.json"
                file.write_text(json.dumps(job))
                launches.append(([f"preflight:{job['name']}"], [str(file)]))
        return Job("drills", gpus, self.cases.minutes["drills"], PREFLIGHT, launches)

    def run(self, job: Job) -> None:
        """All launches of a job; cases for which no time is left, or that fail, leave a row with the reason."""
        for texts, options in job.launches:
            left = (self.end - time.monotonic()) / 60
            fitting = texts[: max(0, int((left - START) / job.each))]
            self.failed(job, texts[len(fitting) :], f"not started: {left:.1f} minutes were left")
            if not fitting:
                continue
            print(f"{job.part} on {job.gpus}: {', '.join(fitting)}", flush=True)
            reason = self._launch(job, options if job.part == "drills" else [*fitting, *options])
            if job.part == "drills":
                self._drilled(job, json.loads(Path(options[0]).read_text()), texts[0])
            measured = {(row["asked"], row["gpus"]) for row in read_rows(self.out)}
            self.failed(job, [text for text in fitting if (text, job.gpus) not in measured], reason or "it gave no row")

    def _launch(self, job: Job, arguments: list[str]) -> str:
        """Run the job's script on its devices; gives why it failed, or nothing."""
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(job.gpus)]
        command = [sys.executable, *(torchrun if job.gpus > 1 else []), str(ROOT / job.script), *arguments]
        path = f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        variables = {"PYTHONPATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        variables |= {} if job.device is None else {"CUDA_VISIBLE_DEVICES": str(job.device)}
        log = self.folder / f"log-{job.part}-{job.gpus}-{job.device}"
        with log.open("w") as errors:
            process = subprocess.Popen(
                command, env={**os.environ, **variables}, stderr=errors, start_new_session=True
            )  # fmt: skip
            try:
                code = process.wait(max(1.0, self.end - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGTERM)  # torchrun ends its processes
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return "ended: the time was over"
        return f"exit code {code}: {last_error(log.read_text(errors='replace'))}" if code else ""

    def _drilled(self, job: Job, drill: dict[str, Any], text: str) -> None:
        file = Path(drill["folder"]) / "checks.json"
        if file.exists():
            layout, results = drill["run"]["layout"], json.loads(file.read_text())
            self.write(
                {"asked": text, "case": "preflight", "gpus": job.gpus, "strategy": layout["strategy"],
                 "context": layout["context_parallel"], "passed": all(result["passed"] for result in results),
                 "checks": {result["check"]: result["measured"] for result in results}}
            )  # fmt: skip

    def failed(self, job: Job, texts: list[str], reason: str) -> None:
        for text in texts:
            self.write({"asked": text, "case": text, "gpus": job.gpus, "error": reason})

    def write(self, row: dict[str, Any]) -> None:
        print(json.dumps(row), flush=True)
        with self.out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def last_error(log: str) -> str:
    """The line of a log that says best what went wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if ("Error" in line or "error:" in line) and "ChildFailedError" not in line]
    return (telling or lines or ["it said nothing"])[-1][:300]


def read_rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def announce(plan: list[list[Job]], minutes: float) -> None:
    total = 0.0
    for jobs in plan:
        for job in jobs:
            texts = [text for cases, _ in job.launches for text in cases]
            print(f"{job.minutes:6.1f} min  {job.part:10} {job.gpus} x  {' '.join(texts)}")
        total += max(job.minutes for job in jobs)
    print(f"{total:6.1f} min  in all, of {minutes:g} that may be used", flush=True)


def machine(tiny: bool) -> str:
    if tiny:
        return f"{os.cpu_count()} CPU cores ({platform.machine()}), gloo, tiny models"
    import torch

    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("scaling.jsonl"))
    parser.add_argument("--gpus", type=int, nargs="*", help="numbers of GPUs; 1 and all powers of two that there are")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--cases", nargs="*", help="of benchmarks/train.py, instead of those of `shared`")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long it may take")
    parser.add_argument("--save", type=Path, help="a folder on the disk to write checkpoints to; else one beside --out")
    parser.add_argument("--tiny", action="store_true", help="tiny models on CPUs")
    parser.add_argument("--dry", action="store_true", help="only print what would run")
    asked = parser.parse_args()
    there = 2
    if not asked.tiny:
        import torch

        there = torch.cuda.device_count()
    counts = asked.gpus or [n for n in (1, 2, 4, 8) if n <= there]
    if (not there or max(counts) > there) and not (asked.tiny or asked.dry):
        sys.exit(f"error: GPUs of this machine: {there}, asked for: {max(counts, default=1)}; --tiny runs on CPUs")
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.save or asked.out.parent, prefix=".scaling-") as folder:
        cases = TINY if asked.tiny else FULL
        if asked.cases:
            cases = cases.with_shared(asked.cases)
        bench = Bench(
            cases, asked.out.resolve(), Path(folder).resolve(), asked.tiny, time.monotonic() + 60 * asked.minutes
        )
        plan = bench.jobs(counts or [1], asked.only)
        announce(plan, asked.minutes)
        if asked.dry:
            return
        with ThreadPoolExecutor(max(len(jobs) for jobs in plan)) as pool:
            for jobs in plan:
                list(pool.map(bench.run, jobs))
    rows = read_rows(asked.out)
    whole = {"machine": machine(asked.tiny), "date": datetime.date.today().isoformat(), "rows": rows}
    asked.out.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
