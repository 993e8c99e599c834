"""A real Slurm on this one machine, for tests: a controller, accounting, four nodes of eight GPUs that are no GPUs, and
two nodes without. Usage: slurm_cluster.py start|stop|status, or slurm_cluster.py run COMMAND [ARGUMENT ...]

As root, on Debian or Ubuntu. `start` installs what is missing, writes /etc/slurm and starts plain daemons, whose state
lies in a temporary folder; `stop` ends them and removes all of it. A configuration that this program did not write is
left alone. `run` starts the cluster, runs a command and stops the cluster. Where this machine cannot run the daemons,
the last line says why; `start` then ends with exit code 3, `run` with 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

MARK = "# Written by tools/slurm_cluster.py of smolmake: a cluster for tests, removed by its `stop`."
CONF, STATE = Path("/etc/slurm"), Path("/tmp/smolmake-slurm")  # noqa: S108 (mkdir refuses what is there)
GPU_NODES, CPU_NODES, GPUS = ("gpu-01", "gpu-02", "gpu-03", "gpu-04"), ("cpu-01", "cpu-02"), 8
NODES = GPU_NODES + CPU_NODES
PROGRAMS = {
    "slurmctld": "slurmctld", "slurmd": "slurmd", "sinfo": "slurm-client", "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server", "munged": "munge",
}  # fmt: skip
PORTS = {"slurmctld": 16817, "slurmdbd": 16819, "slurmd": 16821}
PATIENCE = 60.0
CANNOT = 3

SLURM_CONF = """{mark}
ClusterName=smolmake
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=15
SlurmctldPort={slurmctld}
StateSaveLocation={state}/slurmctld
SlurmctldPidFile={state}/slurmctld.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdPidFile={state}/slurmd-%n.pid
SlurmdLogFile={state}/slurmd-%n.log
SlurmdSpoolDir={state}/slurmd-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
MpiDefault=none
ReturnToService=2
JobRequeue=1
# Faults are found sooner than on a real cluster.
SlurmdTimeout=15
SlurmctldTimeout=10
KillWait=5
UnkillableStepTimeout=20
InactiveLimit=0
MinJobAge=900
MessageTimeout=10
SchedulerParameters=sched_interval=5,batch_sched_delay=0,bf_interval=5,defer_batch
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
JobAcctGatherType=jobacct_gather/none
AccountingStorageTRES=gres/gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
NodeName=DEFAULT CPUs=64 RealMemory=1000000
NodeName=cpu-[01-02] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{cpu_first}-{cpu_last}]
NodeName=gpu-[01-04] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{slurmd}-{gpu_last}] Gres=gpu:h100:{gpus}
PartitionName=cpu Nodes=cpu-[01-02] MaxTime=7-0 OverSubscribe=NO State=UP
PartitionName=gpu Nodes=gpu-[01-04] MaxTime=2-0 OverSubscribe=NO State=UP
PartitionName=urgent Nodes=gpu-[01-04] MaxTime=1-0 OverSubscribe=NO State=UP PriorityTier=10 PreemptMode=OFF
"""
GRES_CONF = """{mark}
NodeName=gpu-[01-04] Name=gpu Type=h100 File={state}/devices/nvidia[0-{last}]
"""
DBD_CONF = """{mark}
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
PidFile={state}/slurmdbd.pid
LogFile={state}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
"""


class Impossible(Exception):
    """This machine cannot run the cluster."""


def install() -> None:
    """Install Debian's packages of the programs that are missing, without starting a service."""
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Impossible(f"{', '.join(missing)} are not installed and there is no apt-get")
    policy = Path("/usr/sbin/policy-rc.d")  # asked by Debian's scripts before they start a service
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
            done = subprocess.run(
                ["apt-get", *command], env=environment, capture_output=True, text=True, check=False, timeout=900
            )
            if done.returncode != 0:
                raise Impossible(f"apt-get {command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def write_configuration() -> None:
    """Write /etc/slurm and the devices.

    Raises:
        Impossible: if a configuration of somebody else is there, or device files cannot be made.
    """
    for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
        file = CONF / name
        if file.exists() and not file.read_text().startswith(MARK):
            raise Impossible(f"{file} is the configuration of another Slurm")
    values = {
        "mark": MARK, "state": STATE, "host": socket.gethostname(), "gpus": GPUS, "last": GPUS - 1, **PORTS,
        "gpu_last": PORTS["slurmd"] + len(GPU_NODES) - 1, "cpu_first": PORTS["slurmd"] + len(GPU_NODES),
        "cpu_last": PORTS["slurmd"] + len(NODES) - 1,
    }  # fmt: skip
    STATE.mkdir(mode=0o755)
    devices = STATE / "devices"
    for place in (devices, STATE / "slurmctld", STATE / "mysql", *(STATE / f"slurmd-{node}" for node in NODES)):
        place.mkdir()
    try:
        for number in range(GPUS):  # copies of /dev/null: Slurm wants character devices
            os.mknod(devices / f"nvidia{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except OSError as error:
        raise Impossible(f"mknod is refused: {error.strerror}") from None
    CONF.mkdir(exist_ok=True)
    for name, text in (("slurm.conf", SLURM_CONF), ("gres.conf", GRES_CONF), ("slurmdbd.conf", DBD_CONF)):
        file = CONF / name
        file.write_text(text.format(**values))
        file.chmod(0o600 if name == "slurmdbd.conf" else 0o644)


def start_munged() -> None:
    for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
        Path(folder).mkdir(exist_ok=True)
        shutil.chown(folder, "munge", "munge")
        Path(folder).chmod(0o755 if folder == "/run/munge" else 0o700)
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
        return
    uid = pwd.getpwnam("munge").pw_uid
    subprocess.run(["munged", "--force"], user=uid, group="munge", check=True, capture_output=True)
    (STATE / "munged.pid").write_text(Path("/run/munge/munged.pid").read_text())
    wait_for(lambda: succeeds("munge", "-n"), "munged")


def start_accounting() -> None:
    """MariaDB with its data and socket in the state folder, and slurmdbd."""
    data, sock = STATE / "mysql", STATE / "mysql.sock"
    shutil.chown(data, "mysql", "mysql")
    shutil.chown(STATE, "mysql", "mysql")
    subprocess.run(
        ["mariadb-install-db", "--user=mysql", f"--datadir={data}", "--auth-root-authentication-method=normal",
         "--skip-test-db"], check=True, capture_output=True,
    )  # fmt: skip
    with (STATE / "mysql.log").open("w") as log:
        subprocess.Popen(
            ["mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--socket={sock}", "--skip-networking",
             f"--pid-file={STATE}/mysql.pid", "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0"],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    wait_for(lambda: succeeds("mariadb-admin", f"--socket={sock}", "ping"), "MariaDB")
    # slurmdbd's client library knows one place for the socket.
    default = Path("/run/mysqld/mysqld.sock")
    default.parent.mkdir(exist_ok=True)
    if default.is_symlink() or not default.exists():
        default.unlink(missing_ok=True)
        default.symlink_to(sock)
    start_daemon("slurmdbd")
    wait_for(lambda: succeeds("sacctmgr", "-n", "show", "cluster"), "slurmdbd")


def start_daemon(name: str, *arguments: str) -> None:
    done = subprocess.run([name, *arguments], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise SystemExit(f"error: {name} does not start: {done.stderr.strip()}")


def start_slurmd(node: str) -> None:
    start_daemon("slurmd", "-N", node)


def start_slurmctld(*arguments: str) -> None:
    start_daemon("slurmctld", *arguments)
    wait_for(lambda: succeeds("scontrol", "ping") and "UP" in output("scontrol", "ping"), "slurmctld")


def start() -> None:
    """Start all daemons and wait until every node is idle and accounting answers."""
    if os.geteuid() != 0:
        raise Impossible("this needs root")
    if STATE.exists():
        raise SystemExit("error: the cluster runs already, or an earlier one was not stopped: slurm_cluster.py stop")
    install()
    try:
        write_configuration()
        start_munged()
        start_accounting()
        output("sacctmgr", "-i", "add", "cluster", "smolmake")
        output("sacctmgr", "-i", "add", "account", "lab", "Description=tests", "Organization=tests")
        output("sacctmgr", "-i", "add", "user", pwd.getpwuid(os.geteuid()).pw_name, "Account=lab")
        start_slurmctld()
        for node in NODES:
            start_slurmd(node)
        wait_for(lambda: states() == {"idle": len(NODES)}, "all nodes idle")
        wait_for(lambda: succeeds("sacct", "-n"), "sacct")
    except BaseException:
        with contextlib.suppress(Exception):
            for log in sorted(STATE.glob("*.log")):
                print(f"== {log.name}\n{log.read_text()[-1500:]}", file=sys.stderr)
        stop()
        raise


def stop() -> None:
    """End the daemons of this cluster, by their pid files, with whatever jobs they run, and remove its files."""
    conf = CONF / "slurm.conf"
    ours = conf.exists() and conf.read_text().startswith(MARK)
    if ours and succeeds("scontrol", "ping"):
        output("scancel", "--user", pwd.getpwuid(os.geteuid()).pw_name)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and output("squeue", "-h"):
            time.sleep(0.3)
    order = ["slurmd-*.pid", "slurmctld.pid", "slurmdbd.pid", "mysql.pid", "munged.pid"]
    for file in [file for pattern in order for file in sorted(STATE.glob(pattern))]:
        end_process(file)
    if ours:
        for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
            (CONF / name).unlink(missing_ok=True)
    default = Path("/run/mysqld/mysqld.sock")
    if default.is_symlink() and not default.exists():
        default.unlink()
    shutil.rmtree(STATE, ignore_errors=True)


def end_process(pid_file: Path, number: int = signal.SIGTERM) -> None:
    """End the process of a pid file and wait until it is gone; by force after ten seconds."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, number)
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and not zombie(pid):
        if time.monotonic() > deadline:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            deadline += 10
        time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def states() -> dict[str, int]:
    """Nodes by state; sinfo has a line for each partition of a node."""
    lines = output("sinfo", "-h", "-N", "-o", "%N %T").splitlines()
    return dict(Counter(dict(line.split() for line in lines).values()))


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()


def succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"error: {what} did not come within {PATIENCE:.0f} s")
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["start", "stop", "status", "run"])
    parser.add_argument("program", nargs=argparse.REMAINDER, help="what `run` runs on the cluster")
    arguments = parser.parse_args()
    command = arguments.command
    began = time.monotonic()
    if command in ("start", "run"):
        try:
            start()
        except Impossible as error:
            print(f"no Slurm on this machine, what needs it is left out: {error}", file=sys.stderr)
            sys.exit(CANNOT if command == "start" else 0)
        print(f"six nodes are idle after {time.monotonic() - began:.0f} s", flush=True)
    if command == "run":
        try:
            sys.exit(subprocess.call(arguments.program))
        finally:
            stop()
    if command == "start":
        return
    if command == "stop":
        stop()
    else:
        print(output("sinfo", "-N", "-l") if STATE.exists() else "no cluster runs")
        sys.exit(0 if STATE.exists() else 1)


if __name__ == "__main__":
    main()
