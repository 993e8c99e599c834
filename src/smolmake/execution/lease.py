"""A lease on a step's folder: who computes it, and a heartbeat that says that he still does.

The lock beside it (flock) settles the matter on one machine and wherever the file system carries locks between nodes.
Where it does not, and for a node that hangs, there is `lease.json`: its owner renews the file's time every HEARTBEAT
seconds. Nobody compares clocks: who waits watches, by his own monotonic clock, whether the file still changes, and
takes over once it has not for MISSED heartbeats. An owner that finds another's token in the file, or could not renew it
for nearly as long, ends at once, so a process that wakes up after hours cannot write over the work of its successor.
What remains is the moment between the last look at the lease and the rename of the manifest; hashes are verified when
a result is used, so that even then nothing mixed is taken for whole.

Every process of a job also renews `heartbeats/<job>/<rank>`, by which the executor finds a rank that hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from smolmake.errors import UserError
from smolmake.files import take_lock, write_json

HEARTBEAT = float(os.environ.get("SMOLMAKE_HEARTBEAT", "10"))  # seconds
MISSED = 12  # heartbeats after which a lease is stale
LEASE, LOCK, HEARTBEATS = "lease.json", ".lock", "heartbeats"
LOST = 75  # exit code of a process that lost its lease: EX_TEMPFAIL of sysexits.h
GO, NOTHING_TO_DO = "go", "nothing to do"


class Lost(Exception):
    """Another process has taken the step over."""


class Lease:
    """The lease that this process holds on a folder, renewed every `interval` seconds.

    `needless`: who held it before has finished the step.
    """

    def __init__(self, folder: Path, needless: bool, interval: float) -> None:
        self.folder, self.file, self.needless, self.interval = folder, folder / LEASE, needless, interval
        self.token = uuid.uuid4().hex
        self.renewed = time.monotonic()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self) -> None:
        """Write the lease and begin to renew it."""
        self._write("running")
        self.check()
        self.thread.start()

    def check(self) -> None:
        """Raise Lost if the lease is no longer this process's: it must not publish anything then."""
        found = read_lease(self.folder)
        if found is None or found.get("owner") != self.token:
            by = f"job {found.get('job')} on {found.get('host')}" if found else "somebody who removed it"
            raise Lost(f"the lease on {self.folder} was taken over by {by}")

    def end(self, state: str) -> None:
        """Stop renewing; leave the lease with a state that lets others go on at once, or none after success."""
        self.ended.set()
        self.thread.join()
        with contextlib.suppress(OSError, Lost):
            self.check()
            if state == "finished":
                self.file.unlink()
                shutil.rmtree(self.folder / HEARTBEATS, ignore_errors=True)
            else:
                self._write(state)

    def _write(self, state: str) -> None:
        about = {"owner": self.token, "state": state, "job": job_key(), "host": socket.gethostname()}
        write_json(self.file, about | {"machine": machine(), "pid": os.getpid()})

    def _renew(self) -> None:
        while not self.ended.wait(self.interval):
            try:
                self.check()
                os.utime(self.file)
                self.renewed = time.monotonic()
            except Lost as lost:
                end_process(str(lost))
            except OSError as error:
                if time.monotonic() - self.renewed > (MISSED - 2) * self.interval:
                    end_process(f"the lease on {self.folder} could not be renewed: {error}")


@contextmanager
def hold(folder: Path, result: Path, interval: float = HEARTBEAT) -> Iterator[Lease]:
    """Hold the lease on a folder, after waiting while another process has it, who may leave `result` meanwhile."""
    with (folder / LOCK).open("w") as lock:
        lease = Lease(folder, _wait(folder, lock, interval) and result.exists(), interval)
        lease.take()
        with heartbeat(folder, 0, NOTHING_TO_DO if lease.needless else GO, interval):
            try:
                yield lease
            except BaseException as error:
                lease.end(_state(error))
                raise
            lease.end("finished")


def _state(error: BaseException) -> str:
    if isinstance(error, UserError):
        return "refused"  # the same on any node
    return "stopped" if isinstance(error, SystemExit) and error.code == 143 else "failed"


def _wait(folder: Path, lock: IO[str], interval: float) -> bool:
    """Wait until the folder is free to take; gives whether that took any waiting."""
    waited, watch = False, SilenceWatch(MISSED * interval)
    while True:
        locked = take_lock(lock, wait=False)
        found = read_lease(folder)
        here = found is not None and found.get("machine") == machine()
        if locked and (found is None or found.get("state") != "running" or here):
            return waited
        # Held, or nobody knows. On this machine the lock alone decides: who hangs here is ended by the executor.
        if found is not None and not here and watch.unchanged(folder / LEASE):
            print(f"the lease of job {found.get('job')} on {found.get('host')} is stale: taking over", file=sys.stderr)
            return True
        if not waited:
            who = f"job {found.get('job')} on {found.get('host')}" if found else "another process"
            print(f"waiting for {who}, which computes {folder.name}", file=sys.stderr, flush=True)
            waited = True
        time.sleep(min(1.0, interval / 2))


class SilenceWatch:
    """Whether files still change, by the watcher's own clock."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.seen: dict[Path, tuple[object, float]] = {}

    def unchanged(self, file: Path) -> bool:
        """True once a file has been the same for `limit` seconds of watching."""
        try:
            with file.open("rb") as content:  # opening asks a network file system's server for the file as it is now
                state: object = (os.fstat(content.fileno()).st_mtime_ns, content.read())
        except OSError:
            state = None
        now = time.monotonic()
        if file not in self.seen or self.seen[file][0] != state:
            self.seen[file] = (state, now)
        return now - self.seen[file][1] > self.limit


@contextmanager
def heartbeat(folder: Path, rank: int, sign: str = GO, interval: float = HEARTBEAT) -> Iterator[None]:
    """Renew this process's own heartbeat while the block runs."""
    file = folder / HEARTBEATS / job_key() / str(rank)
    ended = threading.Event()

    def beat() -> None:
        try:
            os.utime(file)
        except FileNotFoundError:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(sign)

    def renew() -> None:
        while not ended.wait(interval):
            with contextlib.suppress(OSError):
                beat()

    file.unlink(missing_ok=True)  # of an earlier start of this job
    beat()
    threading.Thread(target=renew, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def await_main(folder: Path) -> bool:
    """In a process other than the first: wait until the first holds the lease; False if there is nothing to do."""
    file = folder / HEARTBEATS / job_key() / "0"
    while True:
        with contextlib.suppress(OSError):
            sign = file.read_text()
            if sign:
                return sign == GO
        time.sleep(0.05)


def await_end(folder: Path, limit: float = 10.0) -> None:
    """In a process other than the first: wait, not longer than `limit` seconds, until the first has ended.

    Whoever starts the processes ends all of them with the first that fails; a mistake that all of them meet is to be
    told by the first, and to stand in its lease.
    """
    end = time.monotonic() + limit
    while time.monotonic() < end and (read_lease(folder) or {}).get("state") == "running":
        time.sleep(0.05)


def read_lease(folder: Path) -> dict[str, Any] | None:
    """What lease.json says; None if there is none, or none that can be read."""
    try:
        found = json.loads((folder / LEASE).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def job_key() -> str:
    """A name that all processes of a job share: Slurm's, or where the processes of torchrun meet, or this process."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    return os.environ.get("SLURM_JOB_ID") or (f"{address}-{port}" if address and port else f"pid-{os.getpid()}")


def machine() -> str:
    """This running kernel: containers with the same host name on two machines differ in it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def end_process(reason: str) -> None:
    """End this process at once, from whatever thread: nothing may be written any more."""
    print(f"error: {reason}; this copy ends", file=sys.stderr, flush=True)
    os._exit(LOST)
