"""GPUs shared out by real processes, which print what they were given; `nvidia-smi` states how many there are."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.timeouts import WAIT

SOURCE = Path(__file__).parents[3] / "src"
# Says its GPUs, with the times between which it has them.
JOB = """
import os, sys, time
began = time.monotonic()
time.sleep(float(sys.argv[1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], began, time.monotonic(), flush=True)
"""
# As torchrun: what it starts holds the GPUs itself, in a session of its own, and lives on when this is killed.
PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", '''
import os, time
from smolmake.execution.devices import hold_gpus
hold_gpus()
print(os.getpid(), flush=True)
time.sleep(3600)
'''], start_new_session=True)
time.sleep(3600)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The environment of a machine with so many GPUs."""

    def environment(count: int, **more: str) -> dict[str, str]:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        lines = "".join(f"echo 'GPU {n}: NVIDIA H100 80GB HBM3 (UUID: GPU-{n}a)'\n" for n in range(count))
        program.write_text(f"#!/bin/sh\n{lines}")
        program.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "SMOLMAKE"))}
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        return kept | {"PATH": path, "TMPDIR": str(tmp_path), "PYTHONPATH": str(SOURCE)} | more

    return environment


def start(environment: dict[str, str], number: int, code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "smolmake.execution.devices", str(number), sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(job: subprocess.Popen[str]) -> tuple[str, float, float]:
    out, error = job.communicate(timeout=WAIT)
    assert job.returncode == 0, error
    gpus, began, ended = out.split()
    return gpus, float(began), float(ended)


def test_jobs_at_one_time_have_different_gpus(machine: Callable[..., dict[str, str]]) -> None:
    environment = machine(3)
    found = [said(job) for job in [start(environment, number, JOB, "1") for number in (1, 2, 1, 2, 1)]]
    assert sorted(len(gpus.split(",")) for gpus, _, _ in found) == [1, 1, 1, 2, 2]
    for gpus, began, ended in found:
        others = [each for each in found if each[1] != began and each[1] < ended and began < each[2]]
        assert not any(set(gpus.split(",")) & set(other.split(",")) for other, _, _ in others)


def test_a_killed_job_frees_its_gpus_and_who_waited_is_told_why(machine: Callable[..., dict[str, str]]) -> None:
    environment = machine(1)
    first = start(environment, 1, "import time; print(flush=True); time.sleep(3600)")
    assert first.stdout is not None and first.stdout.readline()
    second = start(environment, 1, JOB, "0")
    assert second.stderr is not None
    assert second.stderr.readline().startswith(f"waiting for 1 GPU; in use: GPU-0a (process {first.pid}: ")
    first.kill()
    assert said(second)[0] == "GPU-0a"
    first.communicate()


def test_a_gpu_is_in_use_until_the_last_process_of_its_job_has_ended(machine: Callable[..., dict[str, str]]) -> None:
    environment = machine(1)
    parent = start(environment, 1, PARENT)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    second = start(environment, 1, JOB, "0")
    assert second.stderr is not None and second.stderr.readline().startswith("waiting for 1 GPU")
    time.sleep(2)
    assert second.poll() is None
    os.kill(child, signal.SIGKILL)
    assert said(second)[0] == "GPU-0a"


def test_no_gpu_for_a_job_that_takes_none(machine: Callable[..., dict[str, str]]) -> None:
    job = start(machine(1), 0, "import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))")
    assert job.communicate(timeout=WAIT) == ("''\n", "GPUs of this job: none\n")


def gpus_of(environment: dict[str, str]) -> tuple[str, str]:
    code = "from smolmake.execution.devices import machine_gpus; print(*machine_gpus())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr.strip()


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("1,2", "GPU-1a GPU-2a"),
        ("GPU-2a,0", "GPU-2a GPU-0a"),
        ("", ""),
        ("-1", ""),
        ("0,7,1", "GPU-0a"),
        ("1,1", "GPU-1a"),
    ],
)
def test_an_outer_choice_of_devices_is_kept(machine: Callable[..., dict[str, str]], visible: str, gpus: str) -> None:
    environment = machine(3, CUDA_VISIBLE_DEVICES=visible)
    assert gpus_of(environment) == (gpus, "")
    if gpus:
        assert said(start(environment, len(gpus.split()), JOB, "0"))[0] == gpus.replace(" ", ",")


def test_more_than_there_are_is_refused(machine: Callable[..., dict[str, str]]) -> None:
    job = start(machine(2), 3, JOB, "0")
    assert job.communicate(timeout=WAIT)[1].startswith("error: this job needs 3 GPUs, and this machine has 2\n")
    assert job.returncode == 1


def test_a_divided_gpu_counts_as_its_parts(machine: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    environment = machine(1)
    with (tmp_path / "bin" / "nvidia-smi").open("a") as file:
        for part in "xy":
            file.write(f"echo '  MIG 1g.10gb Device 0: (UUID: MIG-{part})'\n")
    assert gpus_of(environment)[0] == "MIG-x MIG-y"


def test_a_driver_that_fails_is_told(machine: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    environment = machine(1)
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert gpus_of(environment) == ("", "warning: this machine's GPUs are not used: nvidia-smi says: no driver")
    assert gpus_of(environment | {"PATH": ""})[0] == ""
