"""What breaks while a segment trains on two nodes: the weights end in the bits of an undisturbed run."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import slurm_cluster as cluster
from helpers.slurm_cluster import Controller, Training, daemons, wait_until

# A fault has to come at a moment: on a busy machine the moment can be gone, so each is tried twice.
pytestmark = [pytest.mark.slow, pytest.mark.flaky(reruns=1)]


def test_a_restarted_and_a_second_snakemake_wait_for_the_job_that_runs(training: Training) -> None:
    before = training.job
    training.controller.kill()
    second = Controller(training.tree, (training.step.manifest,))
    training.again()
    training.check()
    for said in (second.succeed(), training.controller.said):
        assert f"is already in Slurm as {before}" in said
    assert training.jobs() == [before]


def test_a_killed_rank_ends_the_others_but_no_result_and_a_node_that_fails_twice_is_left(training: Training) -> None:
    first = training.job
    for number in (1, 2):
        ranks = training.ranks()
        assert set(ranks) == {0, 1}
        os.kill(ranks[1], signal.SIGKILL)
        wait_until(lambda: not training.ranks(), "the end of the other rank", 30)
        if number == 1:
            training.wait_for_progress()
    training.signal_at_the_end(signal.SIGKILL)
    training.check()
    said, jobs = training.controller.said, training.jobs()
    assert said.count("no retry is used up") == 2 and len(jobs) == 3
    assert f"Slurm job {max(jobs, key=int)} ended (FAILED) after its result was whole" in said
    assert "Jobs failed twice on node gpu-02" in said
    last = daemons.output("squeue", "-h", "-t", "all", "-j", max(jobs, key=int), "-o", "%N")
    assert "gpu-02" not in daemons.output("scontrol", "show", "hostnames", last).split()
    logs = training.tree / "logs" / "segment"
    assert "resuming at step" in (logs / f"{training.folder.name}.log").read_text()
    assert "task 1: Killed" in (logs / f"{training.folder.name}.{first}.log").read_text()


def test_a_requeued_job_goes_on_under_its_id_and_a_stopped_rank_is_found_by_its_heartbeat(training: Training) -> None:
    before = training.job
    daemons.output("scontrol", "requeue", before)
    wait_until(lambda: not training.ranks(), "the end of the first start", 60)
    wait_until(lambda: set(training.ranks()) == {0, 1}, "the second start", 120)
    assert training.job == before
    training.wait_for_progress()
    os.kill(training.ranks()[1], signal.SIGSTOP)
    wait_until(lambda: not training.ranks(), "the end of the first job", 60)
    training.signal_at_the_end(signal.SIGSTOP)
    training.check()
    assert "rank 1 has not given a sign of life" in training.controller.said
    assert "has its result and does not end: it is ended" in training.controller.said
    assert len(training.jobs()) == 2


def test_a_preempted_job_that_does_not_come_back_is_sent_again(end_undisturbed: None, training: Training) -> None:
    before = training.job
    daemons.output("sbatch", "--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 5")
    wait_until(lambda: "is PREEMPTED: waiting whether it comes back" in training.controller.said, "the preemption", 60)
    training.check()
    assert set(training.jobs()) > {before}


def test_without_controller_and_accounting_it_waits(end_undisturbed: None, training: Training) -> None:
    """slurmdbd and slurmctld away while the job ends; submission and status both wait for them."""
    daemons.end_process(daemons.STATE / "slurmdbd.pid")
    daemons.end_process(daemons.STATE / "slurmctld.pid")
    try:
        wait_until(lambda: "Slurm does not answer" in training.controller.said, "the message", 120)
        time.sleep(5)
        assert training.controller.process.poll() is None
    finally:
        daemons.start_slurmctld()
    training.check()
    assert "Slurm answers again" in training.controller.said
    daemons.start_daemon("slurmdbd")


def test_a_job_that_slurm_has_forgotten_is_sent_again(end_undisturbed: None, training: Training) -> None:
    """UNKNOWN: the controller loses its jobs while accounting is away, so that nobody can say how this one ended."""
    before = training.job
    for rank in training.ranks().values():
        os.kill(rank, signal.SIGSTOP)  # so that it does not end first
    daemons.end_process(daemons.STATE / "slurmdbd.pid")
    daemons.end_process(daemons.STATE / "slurmctld.pid")
    daemons.start_slurmctld("-c")  # without the jobs of before; their numbers go on
    try:
        told = f"Slurm job {before} is UNKNOWN: waiting whether it comes back"
        wait_until(lambda: told in training.controller.said, "the message", 120)
        training.check()
    finally:
        daemons.start_daemon("slurmdbd")
    assert f"Slurm job {before} ended: UNKNOWN. Its step has come further" in training.controller.said
    wait_until(lambda: daemons.succeeds("sacct", "-n"), "accounting", 60)
    wait_until(lambda: daemons.states() == {"idle": len(daemons.NODES)}, "all nodes idle", 60)


def test_a_disk_that_fills_up_is_told_and_training_goes_on_once_there_is_room(
    undisturbed: Controller, tree: Path, small_disk: Callable[[Path, int], None]
) -> None:
    step = cluster.step_of(tree)
    folder, ballast = (tree / step.manifest).parent, (tree / step.manifest).with_name("ballast")
    folder.mkdir(parents=True)
    small_disk(folder, 16)
    run = Training(tree, undisturbed.tree, step, Controller(tree, (step.manifest,)))
    run.wait_for_recovery()
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert run.controller.process.wait(timeout=cluster.WAIT) != 0
    said = run.controller.said
    log = (tree / "logs" / "segment" / f"{folder.name}.log").read_text()
    assert "Traceback" not in log and "remedy  free space" in log, log
    assert "Jobs failed twice" not in said
    assert not (tree / step.manifest).exists()
    ballast.unlink()
    run.again()
    run.check()


@pytest.mark.chaos
def test_a_lost_node_is_left_and_the_job_comes_back_elsewhere(training: Training) -> None:
    node = daemons.output("squeue", "-h", "-j", training.job, "-o", "%N")
    last = daemons.output("scontrol", "show", "hostnames", node).split()[-1]
    daemons.end_process(daemons.STATE / f"slurmd-{last}.pid", signal.SIGKILL)
    os.kill(training.ranks()[1], signal.SIGKILL)
    daemons.output("scontrol", "update", f"nodename={last}", "state=down", "reason=test")
    try:
        training.check()
    finally:
        daemons.start_slurmd(last)
        daemons.output("scontrol", "update", f"nodename={last}", "state=resume")
    wait_until(lambda: cluster.daemons.states() == {"idle": len(daemons.NODES)}, "all nodes idle", 60)
