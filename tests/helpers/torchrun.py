"""A step's script in several processes of this machine."""

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
    return subprocess.Popen(
        [
            sys.executable, "-m", "smolmake.cluster.torchrun", str(processes),
            str(ROOT / "workflow" / "scripts" / script), write_job(place, job),
        ],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=output,
        text=True,
    )  # fmt: skip
