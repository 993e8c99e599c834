"""A step's script in several processes of this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers.jobs import write_job
from helpers.training import ROOT


def torchrun(
    processes: int, script: str | Path, job: dict[str, Any], place: Path, output: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """Start a script that takes a step's job, or a program of the tests' own that takes `job` as JSON."""
    argument = write_job(place, job) if "kind" in job else json.dumps(job)
    return subprocess.Popen(
        [
            sys.executable, "-m", "smolmake.cluster.torchrun", str(processes),
            str(ROOT / "workflow" / "scripts" / script), argument,
        ],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=output,
        text=True,
    )  # fmt: skip
