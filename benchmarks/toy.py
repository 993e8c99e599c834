"""How long the toy takes: set-up, the whole graph, and a second run with nothing to do.

    python benchmarks/toy.py [--no-setup] [--folder FOLDER]

Clones the committed tree into an empty folder and runs what a newcomer runs, `make toy`, twice. Prints a table with
wall time and the peak of resident memory summed over all processes of the run (shared pages counted each time, so an
upper bound). With --no-setup the clone borrows this tree's environment and only the graph is measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"set-up": 240.0, "toy graph": 480.0, "nothing to do": 6.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-setup", action="store_true", help="borrow this tree's .venv")
    parser.add_argument("--folder", type=Path, help="clone into this empty folder and leave it there")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="smolmake-toy-"))
    clone = folder / "smolmake"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    rows = []
    if arguments.no_setup:
        (clone / ".venv").symlink_to(ROOT / ".venv")
    else:
        rows.append(("set-up", *measure(["make", "setup"], clone)))
    toy = [".venv/bin/snakemake", "--workflow-profile", "profiles/local", "--quiet", "all"]
    rows.append(("toy graph", *measure(toy, clone)))
    rows.append(("nothing to do", *measure(toy, clone)))
    memory = psutil.virtual_memory().total / 2**30
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB; {clone}")
    print(f"{'what':<16}{'seconds':>10}{'limit':>8}{'peak GiB':>10}")
    for name, seconds, peak in rows:
        print(f"{name:<16}{seconds:>10.1f}{LIMITS[name]:>8.0f}{peak:>10.2f}")


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command; return seconds and the peak of summed resident memory in GiB. Ends the program if it fails."""
    started = time.monotonic()
    log = folder / "benchmark.log"
    with log.open("a") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.2)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}; see {log}")
    return time.monotonic() - started, peak / 2**30


def resident(pid: int) -> int:
    """Bytes of resident memory of a process and all that it started."""
    total = 0
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return total
    return total


if __name__ == "__main__":
    main()
