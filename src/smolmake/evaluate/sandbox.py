"""Run what a model wrote, with tests, in a bubblewrap sandbox, which nothing of it outlives.

No network, no files but a read-only interpreter and a small scratch folder in memory, process ids of its own, an
unprivileged user, and limits. The verdict comes over a channel as a token that the tests' end alone sends; a program
that would send it whatever the tests say is found out by tests that cannot be passed (docs/explanation/security.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import psutil

from smolmake.errors import UserError

Verdict = Literal["passed", "failed", "died", "out of time", "out of memory", "too much output", "forged"]
PACKAGES = ("numpy", "numpy.libs")  # what tests import beside the standard library, as HumanEval+'s
UNPASSABLE = "\nraise AssertionError\n"
MESSAGE, POLL, GRACE = 2**16, 0.05, 1.0  # bytes on the channel; seconds between looks, and to end without a verdict
OUT_OF_CPU = 128 + 24  # bubblewrap's exit code after SIGXCPU
USERS = 61184, 4096  # a user for each program, so that its processes are counted alone: first and number
INSTALL = (
    "install bubblewrap 0.8 or newer (apt install bubblewrap, dnf install bubblewrap, conda install -c conda-forge "
    "bubblewrap), or take the task out"
)

ALLOW = (
    "let unprivileged users make user namespaces (sysctl user.max_user_namespaces; on Ubuntu 24.04 an AppArmor profile "
    "for bwrap; in a container its seccomp profile), or take the task out"
)
SCRATCH = "/tmp"  # noqa: S108 (inside, where nothing else is)
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": SCRATCH,
    "PYTHONHASHSEED": "0",  # the order in a set is the same in each run, and so is the verdict
    "OPENBLAS_NUM_THREADS": "1",
}

# What runs inside; its arguments are the channel, the user to become and the limits. All comes as lines of JSON.
RUNNER = """
import json, os, resource, sys
channel, user, limits = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
for name, limit in (("CPU", limits["cpu_seconds"]), ("AS", limits["memory"]), ("NPROC", limits["processes"]),
                    ("FSIZE", limits["disk"]), ("NOFILE", 64), ("CORE", 0), ("MSGQUEUE", 0)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (limit, limit + 1 if name == "CPU" else limit))
nowhere = os.open("/dev/null", os.O_WRONLY)
os.dup2(nowhere, 1)
os.dup2(nowhere, 2)
sys.path.append("/packages")
told = open(channel, "rb", closefd=False)
say = lambda word: os.write(channel, json.dumps(word).encode() + b"\\n")
say("ready")
try:
    space = {}
    exec(json.loads(told.readline()), space)
    say("loaded")
    token, tests = json.loads(told.readline())
    exec(tests, space)
    say(token)
except BaseException as error:
    say("failed")
os._exit(0)
"""


@dataclass(frozen=True)
class Limits:
    """Of one program: seconds on the clock and of computing, bytes of memory and of files, processes and threads."""

    seconds: float = 30.0
    cpu_seconds: int = 10
    memory: int = 2 * 2**30
    disk: int = 2**24
    processes: int = 16


@dataclass(frozen=True)
class Sandbox:
    """A way to run bubblewrap. Started by root, its runner becomes another user `inside`, or all of it runs as one."""

    command: tuple[str, ...]
    inside: bool = False
    outside: bool = False

    def judge(self, program: str, tests: str, limits: Limits | None = None) -> Verdict:
        """Whether a program passes tests, which run behind it among its own names.

        Raises:
            UserError: if the sandbox itself cannot run: then nothing is known of the program.
        """
        limits = limits or Limits()
        verdict = self._run(program, tests, limits)
        if verdict == "passed" and self._run(program, tests + UNPASSABLE, limits) == "passed":
            return "forged"
        if verdict == "died" and self._run("", "", limits) != "passed":
            raise _failed("it ran before and does so no more")
        return verdict

    def _run(self, program: str, tests: str, limits: Limits) -> Verdict:
        user = USERS[0] + secrets.randbelow(USERS[1])
        ours, theirs = socket.socketpair()
        with ours, theirs:
            inside = ["--size", str(limits.disk), "--perms", "1777", "--tmpfs", SCRATCH, "--remount-ro", "/"]
            python = ["--chdir", SCRATCH, os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-c", RUNNER]
            told = [str(theirs.fileno()), str(user if self.inside else 0), json.dumps(asdict(limits))]
            try:
                process = subprocess.Popen(
                    [*self.command, *inside, *python, *told], pass_fds=[theirs.fileno()], env=ENVIRONMENT,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                    **_as_user(user if self.outside else None),
                )  # fmt: skip
            except OSError as error:
                raise _failed(str(error)) from None
            theirs.close()
            try:
                verdict = _follow(ours, process, program, tests, limits)
            finally:
                process.kill()
                _, said = process.communicate()
        if verdict is None:
            raise _failed(said.decode(errors="replace").strip() or f"it did not start in {limits.seconds} s")
        return verdict


def _as_user(user: int | None) -> dict[str, Any]:
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def _follow(
    channel: socket.socket, process: subprocess.Popen[bytes], program: str, tests: str, limits: Limits
) -> Verdict | None:
    """The verdict on a program, or None if the runner did not come as far as to ask for it.

    The runner says that it is ready, that the program is loaded, and the token that comes with the tests.
    """
    token, end = secrets.token_hex(), time.monotonic() + limits.seconds
    expected, asked = ["ready", "loaded", token], [program, [token, tests]]
    said, to_say = b"", b""
    channel.setblocking(False)
    while expected:
        readable, writable, _ = select.select([channel], [channel] if to_say else [], [], POLL)
        ready = len(expected) < 3
        if time.monotonic() > end:
            return "out of time" if ready else None
        if _memory(process.pid) > limits.memory:
            return "out of memory" if ready else None
        try:
            if writable:
                to_say = to_say[channel.send(to_say) :]
            piece = channel.recv(MESSAGE) if readable else None
        except (BrokenPipeError, ConnectionResetError):
            piece = b""
        if piece == b"":
            return _ending(process) if ready else None
        said += piece or b""
        if len(said) > MESSAGE:
            return "too much output"
        while b"\n" in said and expected:
            line, _, said = said.partition(b"\n")
            if line != json.dumps(expected.pop(0)).encode():
                return "failed"
            to_say += json.dumps(asked.pop(0)).encode() + b"\n" if asked else b""
    return "passed"


def _ending(process: subprocess.Popen[bytes]) -> Verdict:
    """Why a program ended without a verdict."""
    try:
        return "out of time" if process.wait(GRACE) == OUT_OF_CPU else "died"
    except subprocess.TimeoutExpired:  # it closed the channel and goes on
        return "died"


def _memory(pid: int) -> int:
    """Bytes that a process and all below it have in memory."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def _failed(reason: str) -> UserError:
    return UserError(
        "the sandbox for what a model writes failed, so its programs are not judged", value=reason,
        remedy="free memory and processes on this machine, and run again: finished steps are kept",
    )  # fmt: skip


@cache
def find_sandbox() -> Sandbox:
    """A sandbox that was tried here.

    Raises:
        UserError: where there is none, with the reason.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise _refused("there is no bubblewrap (bwrap) here", INSTALL)
    shared = (program, *_view())
    ways = [Sandbox((*shared, "--unshare-user", "--disable-userns"), outside=os.geteuid() == 0)]
    if os.geteuid() == 0:  # first: nobody need not reach the interpreter, which may be in root's own folder
        changes = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
        ways.insert(0, Sandbox((*shared, *changes), inside=True))
    reasons = []
    for way in ways:
        try:
            if way.judge("import numpy", "assert numpy.arange(3).sum() == 3") == "passed":
                return way
            reasons.append("a program that is right was not judged so")
        except UserError as error:
            reasons.append(str(error.value))
    raise _refused("bubblewrap cannot make a sandbox here: " + "; ".join(reasons), ALLOW)


def _refused(reason: str, remedy: str) -> UserError:
    return UserError(f"tasks that run what a model writes are run in a sandbox alone: {reason}", remedy=remedy)


def _view() -> Iterator[str]:
    """What bubblewrap shows: the system's programs and libraries, the interpreter and numpy, none to be written to."""
    yield from ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
    yield from ("--die-with-parent", "--new-session", "--hostname", "sandbox", "--ro-bind", "/usr", "/usr")
    for name in ("/bin", "/sbin", "/lib", "/lib64"):
        if os.path.islink(name):
            yield from ("--symlink", os.readlink(name), name)
        elif os.path.isdir(name):
            yield from ("--ro-bind", name, name)
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        for parent in reversed(Path(sys.base_prefix).parents[:-1]):
            yield from ("--perms", "0755", "--dir", str(parent))
        yield from ("--ro-bind", sys.base_prefix, sys.base_prefix)
    numpy = find_spec("numpy")
    assert numpy is not None and numpy.origin is not None
    packages = Path(numpy.origin).parents[1]
    yield from ("--perms", "0755", "--dir", "/packages")
    for package in PACKAGES:
        if (packages / package).is_dir():
            yield from ("--ro-bind", str(packages / package), f"/packages/{package}")
    yield from ("--dev", "/dev", "--remount-ro", "/dev", "--proc", "/proc")
