"""What Slurm says about jobs, asked so that an answer that does not come is told from a job that is not there."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from smolmake.files import take_lock

PATIENCE = 60  # seconds for an answer of Slurm
OUT_OF_REACH = re.compile(
    r"unable to contact slurm controller|unable to establish controller|connection refused|socket timed out"
    r"|zero bytes were transmitted|slurm_receive_msg|communication connection failure|resource temporarily unavailable"
    r"|slurm controller not responding|unable to connect",
    re.IGNORECASE,
)
GOING = {
    "PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "RESIZING", "REQUEUED", "REQUEUE_FED",
    "SIGNALING", "STAGE_OUT", "STOPPED", "RESV_DEL_HOLD",
}  # fmt: skip
MAY_COME_BACK = {"PREEMPTED", "NODE_FAIL", "REVOKED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
NODE_TO_BLAME = {"FAILED", "NODE_FAIL", "BOOT_FAIL", "HUNG"}
FIELDS = "%i|%T|%S|%N|%Z|%k"


@dataclass(frozen=True)
class Entry:
    """A job as squeue or sacct tells it. `comment` is the plugin's: rule and wildcards."""

    id: str
    state: str
    started: str = ""
    nodes: str = ""
    folder: str = ""
    comment: str = ""


def ask(*command: str) -> str | None:
    """The output of a command of Slurm, or None if it does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def squeue() -> dict[str, Entry] | None:
    """The user's jobs, those that ended lately included; None if the controller does not answer."""
    said = ask("squeue", "--noheader", "--user", str(os.geteuid()), "--states", "all", "--format", FIELDS)
    if said is None:
        return None
    rows = [line.split("|", 5) for line in said.splitlines()]
    return {row[0]: Entry(*row) for row in rows if len(row) == 6}


def sacct(ids: list[str]) -> dict[str, Entry] | None:
    """The jobs as accounting knows them; None if it does not answer."""
    said = ask(
        "sacct", "-X", "--noheader", "--parsable2", "--format=JobIDRaw,State,NodeList", f"--jobs={','.join(ids)}"
    )
    if said is None:
        return None
    rows = [line.split("|") for line in said.splitlines()]
    # "CANCELLED by 1000" is CANCELLED.
    return {row[0]: Entry(row[0], (row[1].split() or ["UNKNOWN"])[0], "", row[2]) for row in rows if len(row) == 3}


def node_names(nodes: str) -> list[str]:
    """gpu-[01-02] as gpu-01, gpu-02."""
    said = ask("scontrol", "show", "hostnames", nodes) if re.search(r"\w", nodes) else ""
    return (said or "").split()


def nodes_of(partitions: str | None) -> list[str]:
    """The nodes of partitions (None: of all); none if Slurm does not answer."""
    which = ["--partition", partitions] if partitions else []
    said = ask("sinfo", "--noheader", "--Node", *which, "--format", "%N")
    return sorted(set((said or "").split()))


def sick_nodes(nodes: list[str]) -> list[str]:
    """Those of the nodes that Slurm itself holds for down, drained or failing."""
    said = ask("sinfo", "--noheader", "--Node", "--nodes", ",".join(nodes), "--format", "%N %T") if nodes else ""
    rows = [line.split() for line in (said or "").splitlines()]
    return sorted({row[0] for row in rows if len(row) == 2 and re.match(r"down|drain|fail|unk", row[1])})


@contextmanager
def submitting(place: Path, me: str) -> Iterator[bool]:
    """Hold the project's lock on submission; gives whether somebody else has submitted since this one last did."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a+") as file:
        with contextlib.suppress(OSError):  # a file system without locks: the leases are what is left
            take_lock(file, wait=True)
        file.seek(0)
        others = file.read() != me
        if others:
            file.seek(0)
            file.truncate()
            file.write(me)
            file.flush()
            os.fsync(file.fileno())
        yield others
