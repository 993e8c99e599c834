"""This machine's GPUs, and a job's own among them: `python -m smolmake.execution.devices NUMBER COMMAND...`.

Snakemake counts GPUs and does not say which. This takes that many which no job has, tells the command which they are
(CUDA_VISIBLE_DEVICES), and becomes it. Each process of a job holds a lock (flock) of each of its GPUs, so the system
frees a GPU when the last of them has ended, however it ended. The locks lie with the machine's temporary files, so the
jobs of all runs and folders of a user share the GPUs out.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from smolmake.errors import UserError, run_as_program
from smolmake.files import lock_file

VISIBLE, TAKEN = "CUDA_VISIBLE_DEVICES", "SMOLMAKE_GPUS"
PAUSE = 1.0  # seconds between two looks for free GPUs


@cache
def machine_gpus() -> tuple[str, ...]:
    """The UUIDs of this machine's GPUs: of those in CUDA_VISIBLE_DEVICES, whose numbers are nvidia-smi's, if it is set.

    A GPU that is divided (MIG) counts as its parts.
    """
    installed, visible = _installed(), os.environ.get(VISIBLE)
    if visible is None:
        return installed
    found: list[str] = []
    for entry in (entry.strip() for entry in visible.split(",")):
        named = [uuid for uuid in installed if entry and uuid.startswith(entry)]
        if entry.isdecimal():
            named = list(installed[int(entry) : int(entry) + 1])
        if len(named) != 1 or named[0] in found:
            break  # CUDA, too, takes no notice of what stands behind an entry that it does not know
        found += named
    return tuple(found)


def _installed() -> tuple[str, ...]:
    try:
        asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return ()
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"warning: this machine's GPUs are not used: {error}", file=sys.stderr, flush=True)
        return ()
    if asked.returncode:
        said = " ".join((asked.stdout + asked.stderr).split())
        print(f"warning: this machine's GPUs are not used: nvidia-smi says: {said}", file=sys.stderr, flush=True)
        return ()
    found: list[str] = []
    for uuid in re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", asked.stdout):
        if uuid.startswith("MIG-") and found and found[-1].startswith("GPU-"):
            found.pop()
        found.append(uuid)
    return tuple(found)


def take_gpus(number: int, holder: str) -> list[str]:
    """Take GPUs for this process and what it becomes; waits, and says so, while too few are free.

    Raises:
        UserError: if there are not so many.
    """
    if number > len(machine_gpus()):
        raise UserError(
            f"this job needs {number} GPUs, and this machine has {len(machine_gpus())}",
            key="runtime.layouts", value=f"gpus_per_node: {number}",
            remedy="give the layout what the machine has, or run on a machine that has more",
        )  # fmt: skip
    told = False
    while True:
        with lock_file(_folder() / "choice"):  # or two jobs could each hold what the other waits for
            free: dict[str, int] = {}
            held = []
            for uuid in machine_gpus() if number else ():
                descriptor = _open(uuid)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(f"{uuid} ({os.read(descriptor, 300).decode(errors='replace')})")
                    os.close(descriptor)
                    continue
                free[uuid] = descriptor
                if len(free) == number:
                    break
            if len(free) == number:
                for descriptor in free.values():
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, holder.encode())
                    os.set_inheritable(descriptor, True)
                return list(free)
            for descriptor in free.values():
                os.close(descriptor)
        if not told:
            print(
                f"waiting for {number} GPU{'s' * (number > 1)}; in use: {', '.join(held)}", file=sys.stderr, flush=True
            )
            told = True
        time.sleep(PAUSE)


def hold_gpus() -> None:
    """Hold the locks of this process's GPUs while it lives: what torchrun starts does not inherit them."""
    for uuid in filter(None, os.environ.get(TAKEN, "").split(",")):
        fcntl.flock(_open(uuid), fcntl.LOCK_SH)


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"smolmake-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _open(uuid: str) -> int:
    return os.open(_folder() / uuid.replace("/", "_"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def main() -> None:
    number, *command = sys.argv[1:]
    taken = ",".join(take_gpus(int(number), f"process {os.getpid()}: {' '.join(command)}"))
    print(f"GPUs of this job: {taken or 'none'}", file=sys.stderr, flush=True)
    os.environ.update({VISIBLE: taken, TAKEN: taken})
    os.execvp(command[0], command)  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    run_as_program(main)
