"""One process of a job on several nodes, started by srun: `python -m smolmake.cluster.srun SCRIPT JOB`.

srun starts one a GPU. This tells torch.distributed where the processes meet and which one this is, sends the output of
all but the first to a file of their own beside the job's log, and becomes the script.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from smolmake.errors import UserError, run_as_program

PORTS = range(20_000, 32_000)  # below those that Linux gives to connections


def rendezvous(environment: dict[str, str]) -> dict[str, str]:
    """torch.distributed's variables from those that Slurm sets inside a step.

    Raises:
        UserError: outside a step of Slurm.
    """
    try:
        rank, world, local = (environment[f"SLURM_{name}"] for name in ("PROCID", "NTASKS", "LOCALID"))
        nodes, job, step = (environment[f"SLURM_{name}"] for name in ("STEP_NODELIST", "JOB_ID", "STEP_ID"))
    except KeyError as missing:
        raise UserError(
            "a layout of several nodes runs inside a Slurm job only",
            key="runtime.layouts", value=f"no {missing.args[0]} in the environment",
            remedy="run with --profile slurm, or use a layout of one node",
        ) from None  # fmt: skip
    # Another port for every job and step, so that two on one node, or a job and its late predecessor, do not meet.
    port = PORTS[(int(job) * 31 + int(step)) % len(PORTS)]
    where = {"MASTER_ADDR": first_address(nodes), "MASTER_PORT": str(port)}
    return {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": local, **where}


def first_address(nodes: str) -> str:
    """The address by which Slurm itself reaches the first of these nodes; its name need not be one of the network."""
    first = _scontrol("show", "hostnames", nodes).split()[0]
    found = re.search(r"NodeAddr=(\S+)", _scontrol("show", "node", first))
    return found.group(1) if found else first


def _scontrol(*arguments: str) -> str:
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=True, timeout=300).stdout


def rank_log(job: Path, rank: int) -> Path:
    """Where a rank other than 0 writes, from the job's file <kind>/<step>.json: logs/<kind>/<step>.rank-0001.log."""
    return Path("logs") / job.parent.name / f"{job.stem}.rank-{rank:04d}.log"


def main() -> None:
    variables = rendezvous(dict(os.environ))
    rank = int(variables["RANK"])
    if rank:
        path = rank_log(Path(sys.argv[2]), rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        print(f"== job {os.environ['SLURM_JOB_ID']} on {os.environ.get('SLURMD_NODENAME')}", flush=True)
    os.environ.update(variables)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    run_as_program(main)
