"""What the cluster path costs: submission through the real Slurm, and the leases. Usage: cluster.py [--jobs 1000]

Needs the cluster of tools/slurm_cluster.py (start it first). Submission: a graph of N jobs that do nothing, sent by
Snakemake's Slurm plugin and by smolmake's executor on top of it, from the first job sent to the last; the jobs wait in
a partition that is down, so that nothing else takes the machine's time. Leases: the time to take and give back one,
and the processor time of an hour's heartbeats.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]
import slurm_cluster as daemons  # noqa: E402

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
GRAPH = """
rule all:
    input:
        expand("results/nothing/{{number}}/manifest.json", number=range({count})),

rule nothing:
    output:
        "results/nothing/{{number}}/manifest.json",
    resources: mem_mb=10, runtime=1
    shell:
        "touch {{output}}"
"""


def submission(executor: str, count: int) -> float:
    """Seconds from the first to the last of `count` jobs sent."""
    prefix = "smolmake-slurm" if executor == "smolmake-slurm" else "slurm"
    site = ["--smolmake-slurm-cpu-partition", "cpu"] if executor == "smolmake-slurm" else ["--slurm-no-account"]
    if executor == "slurm":
        site += ["--default-resources", "slurm_partition=cpu", "slurm_account=lab"]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "Snakefile").write_text(GRAPH.format(count=count))
        log = place / "log"
        with log.open("w") as file:
            never = [f"--{prefix}-init-seconds-before-status-checks", "600", "--seconds-between-status-checks", "600"]
            process = subprocess.Popen(
                [SNAKEMAKE, "--executor", executor, *site, *never, "--jobs", str(count)]
                + ["--max-jobs-per-timespan", f"{count}/1s"],
                cwd=place, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            )  # fmt: skip
        first, deadline = 0.0, time.monotonic() + 600
        try:
            while (sent := len(re.findall("has been submitted", log.read_text()))) < count:
                first = first or (time.monotonic() if sent else 0.0)
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(log.read_text()[-3000:])
                time.sleep(0.05)
            return time.monotonic() - first
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            daemons.output("scancel", "--partition", "cpu")


def leases() -> tuple[float, float]:
    """Seconds to hold a lease once, and processor seconds of an hour of heartbeats of one process."""
    from smolmake.execution.lease import HEARTBEAT, hold

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        began = time.perf_counter()
        for _ in range(100):
            with hold(place, place / "manifest.json"):
                pass
        once = (time.perf_counter() - began) / 100
        with hold(place, place / "manifest.json", interval=0.001):
            start, beats = time.process_time(), time.perf_counter()
            time.sleep(2)
            spent, beats = time.process_time() - start, (time.perf_counter() - beats) / 0.0012
        return once, spent / beats * 3600 / HEARTBEAT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    count = parser.parse_args().jobs
    once, hourly = leases()
    print(f"a lease: {once * 1e3:.1f} ms to take and give back, {hourly:.2f} s of processor time in an hour")
    if not daemons.STATE.is_dir():
        sys.exit("error: no cluster runs: tools/slurm_cluster.py start")
    daemons.output("scontrol", "update", "partitionname=cpu", "state=down")
    try:
        for executor in ("slurm", "smolmake-slurm"):
            seconds = submission(executor, count)
            print(f"{executor}: {count} jobs sent in {seconds:.1f} s, {seconds / count * 1e3:.1f} ms each", flush=True)
    finally:
        daemons.output("scontrol", "update", "partitionname=cpu", "state=up")


if __name__ == "__main__":
    main()
