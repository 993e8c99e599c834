"""Snakemake's Slurm executor for runs of weeks: nothing doubled and nothing lost when Snakemake, Slurm or a node fails.

It submits as the Slurm plugin does, and differs in what happens between submission and result. A restarted Snakemake
waits for the jobs that already compute what it wants. A Slurm that does not answer is waited for. What ended a job is
asked of squeue, then of sacct, and where neither knows, the step's manifest decides. A job that made progress before
it ended is sent again without using up a retry; one whose processes hang is ended; a node on which jobs failed twice
gets no more. Leases in the steps' folders (smolmake/lease.py) make all of it safe where Slurm's word is not enough.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_executor_plugin_slurm import common_settings as common_settings
from snakemake_executor_plugin_slurm.utils import get_job_wildcards
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from smolmake.errors import UserError
from snakemake_executor_plugin_smolmake_slurm.nodes import Nodes
from snakemake_executor_plugin_smolmake_slurm.queue import (
    GOING,
    MAY_COME_BACK,
    NODE_TO_BLAME,
    OUT_OF_REACH,
    Entry,
    ask,
    sacct,
    squeue,
    submitting,
)
from snakemake_executor_plugin_smolmake_slurm.settings import ExecutorSettings as ExecutorSettings
from snakemake_executor_plugin_smolmake_slurm.site import check_request, partitions
from snakemake_executor_plugin_smolmake_slurm.watch import Heartbeats, folder_of, is_made, progress, refused

LONGEST_PAUSE = 120.0


class _OutOfReach(BaseException):
    """sbatch did not reach the controller. No Exception, which the plugin would catch and count as the job's error."""


class Executor(SlurmExecutor):  # type: ignore[misc]
    def __post_init__(self, test_mode: bool = False) -> None:
        self.settings: Any = self.workflow.executor_settings
        self.others: dict[str, Entry] = {}  # unfinished jobs of this folder that another Snakemake sent, by comment
        self.unsure = True  # whether another Snakemake has sent jobs since those were asked for
        self.closing = threading.Event()
        self.silence = 0
        self.began = time.time()
        super().__post_init__(test_mode)
        self.folder = os.path.realpath(self.workflow.workdir_init)
        self.nodes = Nodes(Path(self.folder), self._failed_nodes, self.logger)
        self.lock_file = Path(self.folder) / ".snakemake" / "smolmake-slurm.lock"
        self.check_site()

    def check_site(self) -> None:
        """Refuse what this cluster cannot give, before the first job is sent.

        Raises:
            WorkflowError: naming the setting, its value and the remedy.
        """
        jobs = [job for job in self.workflow.dag.needrun_jobs() if not job.is_local]
        known = partitions() if jobs else None
        if known is None:
            return  # the controller is away: jobs wait for it
        alike = {(self.partition_of(job)[1], job.resources.get("nodes")): job for job in jobs}
        try:
            self.nodes.refresh()
            for job in jobs:
                check_request(job, *self.partition_of(job), known, self.settings.longest)
            for job in alike.values():
                self.nodes.check(job, self.partition_of(job)[1])
        except UserError as error:
            raise WorkflowError(str(error)) from error

    def partition_of(self, job: Any) -> tuple[str, str | None]:
        """The setting that decides a job's partition, and its value."""
        if job.resources.get("slurm_partition"):
            return "slurm_partition", str(job.resources.slurm_partition)
        if job.resources.get("gres") or job.resources.get("gpu"):
            return "smolmake-slurm-gpu-partition", self.settings.gpu_partition
        return "smolmake-slurm-cpu-partition", self.settings.cpu_partition

    # Submission

    def get_partition_arg(self, job: Any) -> str:
        name = self.partition_of(job)[1]
        more = f" {shlex.join(shlex.split(self.settings.extra))}" if self.settings.extra else ""
        return (f" -p {shlex.quote(str(name))}" if name else "") + more

    def get_account_arg(self, job: Any) -> Iterator[str]:
        account = job.resources.get("slurm_account") or self.settings.account
        yield f" -A {shlex.quote(str(account))}" if account else ""

    def run_job(self, job: Any) -> None:
        """Send a job, unless one that does the same is there already or has just finished."""
        try:
            for pause in self.pauses():
                with submitting(self.lock_file, self.run_uuid) as others:
                    self.unsure = self.unsure or others
                    if (not self.unsure or self.look_for_others()) and self.send(job):
                        return
                self.out_of_reach(f"job {job.jobid} is sent when it does")
                if self.closing.wait(pause):
                    return
        except Exception as error:
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"submission failed: {error}")

    def send(self, job: Any) -> bool:
        """Adopt or submit a job; False if the controller was out of reach."""
        if not self.forced and is_made(job, since=self.began):
            self.logger.info(f"Job {job.jobid} was finished by another Snakemake meanwhile.")
            self.report_job_success(SubmittedJobInfo(job))
            return True
        if comment_of(job) in self.others and not self.look_for_others():
            return False
        entry = self.others.pop(comment_of(job), None)
        if entry is not None:
            self.logger.info(
                f"Job {job.jobid} is already in Slurm as {entry.id} ({entry.state}): waiting for that one."
            )
            log = self.slurm_logdir / f"rule_{job.name}" / get_job_wildcards(job) / f"{entry.id}.log"
            aux = {"slurm_logfile": log, "adopted": True}
            self._report_job_submission_threadsafe(SubmittedJobInfo(job, external_jobid=entry.id, aux=aux))
            return True
        self.nodes.refresh()
        try:
            super().run_job(job)
        except _OutOfReach:
            self.unsure = True  # it may have arrived all the same
            return False
        return True

    def look_for_others(self) -> bool:
        """Note the unfinished jobs of this folder that this run does not know; False if Slurm does not answer."""
        jobs = squeue()
        if jobs is None:
            return False
        with self.lock:
            mine = {info.external_jobid for info in self.active_jobs}
        going = [job for job in jobs.values() if job.state in GOING and job.id not in mine]
        self.others = {job.comment: job for job in going if os.path.realpath(job.folder) == self.folder}
        self.unsure = False
        return True

    def _report_job_submission_threadsafe(self, job_info: SubmittedJobInfo) -> None:
        job_info.aux |= {"seen": time.monotonic(), "progress": progress(folder_of(job_info.job))}
        super()._report_job_submission_threadsafe(job_info)

    def _report_job_error_threadsafe(self, job_info: SubmittedJobInfo, msg: str) -> None:
        if job_info.external_jobid is None and OUT_OF_REACH.search(msg):
            raise _OutOfReach(msg)
        super()._report_job_error_threadsafe(job_info, msg)

    @property
    def interval(self) -> float:
        """Seconds between two looks at the queue."""
        return float(self.workflow.remote_execution_settings.seconds_between_status_checks)

    @property
    def forced(self) -> bool:
        settings = self.workflow.dag_settings
        return bool(settings.forceall or settings.forcerun)

    def made(self, info: SubmittedJobInfo) -> bool:
        """Whether a job's result is there; of a job that is forced, a new one."""
        return is_made(info.job, since=self.began if self.forced else 0.0)

    # Watching

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        self.next_seconds_between_status_checks = self.interval
        if not active_jobs:
            return
        async with self.status_rate_limiter:
            known = await asyncio.to_thread(squeue)
        if known is None:
            self.next_seconds_between_status_checks = self.out_of_reach("its jobs are kept")
            for info in active_jobs:
                yield info
            return
        if self.silence:
            self.silence = 0
            self.logger.info("Slurm answers again.")
        missing = [info.external_jobid for info in active_jobs if info.external_jobid not in known]
        if missing:
            told = await asyncio.to_thread(sacct, missing) or {}
            # A job that squeue has forgotten is not under way, whatever accounting was told last.
            known |= {job: entry for job, entry in told.items() if entry.state not in GOING}
        for info in active_jobs:
            entry = known.get(info.external_jobid) or Entry(info.external_jobid, "UNKNOWN")
            if await asyncio.to_thread(self.judge, info, entry):
                yield info

    def judge(self, info: SubmittedJobInfo, entry: Entry) -> bool:
        """Whether a job is still under way; if not, it has been reported or sent again."""
        if entry.state in GOING:
            info.aux.pop("gone", None)
            if entry.state == "RUNNING":
                self.check_heartbeats(info, entry)
            return True
        if entry.state == "COMPLETED" or self.made(info):
            if entry.state != "COMPLETED":
                told = f"Slurm job {info.external_jobid} ended ({entry.state}) after its result was whole"
                self.logger.warning(f"{told}: the result counts.")
            self.succeed(info)
            return False
        patience = {"UNKNOWN": self.settings.lost_after} | dict.fromkeys(MAY_COME_BACK, self.settings.requeue_wait)
        since = info.aux.setdefault("gone", time.monotonic())
        if time.monotonic() - since < patience.get(entry.state, 0):
            if info.aux.get("told") != since:
                info.aux["told"] = since
                self.logger.warning(f"Slurm job {info.external_jobid} is {entry.state}: waiting whether it comes back.")
            return True
        self.fail(info, entry)
        return False

    def check_heartbeats(self, info: SubmittedJobInfo, entry: Entry) -> None:
        """End a job that Slurm holds for running although one of its processes has gone silent, or does not end."""
        if self.made(info):
            made = info.aux.setdefault("made", time.monotonic())
            if time.monotonic() - made > self.settings.hung_after and not info.aux.get("hung"):
                info.aux["hung"] = True
                self.logger.warning(f"Slurm job {info.external_jobid} has its result and does not end: it is ended.")
                ask("scancel", info.external_jobid)
            return
        before, heartbeats = info.aux.get("heartbeats", (entry.started, None))
        if heartbeats is None or before != entry.started:  # seen for the first time, or requeued
            folder = Path(self.folder) / folder_of(info.job)
            heartbeats = Heartbeats(folder, entry.id, self.settings.hung_after, requeued=before != entry.started)
            info.aux["heartbeats"] = entry.started, heartbeats
        silent = heartbeats.silent()
        if silent and not info.aux.get("hung"):
            info.aux["hung"] = True
            self.logger.error(
                f"Slurm job {info.external_jobid} runs, but rank {', '.join(silent)} has not given a sign of life for"
                f" {self.settings.hung_after} s: it is ended."
            )
            ask("scancel", info.external_jobid)

    def succeed(self, info: SubmittedJobInfo) -> None:
        self.report_job_success(info)
        log = info.aux["slurm_logfile"]
        if not self.settings.keep_successful_logs:
            log.unlink(missing_ok=True)

    def fail(self, info: SubmittedJobInfo, entry: Entry) -> None:
        """Blame the node, then send the job again or report its error."""
        state, job = "HUNG" if info.aux.get("hung") else entry.state, info.job
        no_use = refused(folder_of(job))
        if state in NODE_TO_BLAME and not no_use:
            self.nodes.blame(entry.nodes, [*map(Path, map(str, job.log)), info.aux["slurm_logfile"]])
        where = f" on {entry.nodes}" if entry.nodes else ""
        told = f"Slurm job {info.external_jobid} ended{where}: {state}"
        if no_use and self.nodes.exclude(job, folder_of(job), self.partition_of(job)[1]):
            self.send_again(info)
            return
        came_on = progress(folder_of(job)) != info.aux["progress"]
        if came_on and not no_use and state != "CANCELLED":
            self.logger.warning(
                f"{told}. Its step has come further meanwhile: it is sent again, and no retry is used up."
            )
            self.send_again(info)
            return
        self.report_job_error(info, msg=f"{told}. ", aux_logs=[str(info.aux["slurm_logfile"])])

    def send_again(self, info: SubmittedJobInfo) -> None:
        for log in map(Path, map(str, info.job.log)):  # the next start begins a new one
            if log.exists():
                log.replace(log.with_suffix(f".{info.external_jobid}{log.suffix}"))
        self._job_submission_executor.submit(self.run_job, info.job)

    def out_of_reach(self, consequence: str) -> float:
        """Say that Slurm does not answer, and for how long to wait: each time longer."""
        pause: float = min(self.interval * 2.0**self.silence, LONGEST_PAUSE)
        self.silence = min(self.silence + 1, 10)
        self.logger.warning(f"Slurm does not answer; {consequence}. Asking again in {pause:.0f} s.")
        return pause

    def pauses(self) -> Iterator[float]:
        pause = 2.0
        while not self.closing.is_set():
            yield pause
            pause = min(pause * 2, LONGEST_PAUSE)

    # The end

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel this run's jobs; those that another Snakemake sent go on."""
        self.closing.set()
        adopted = [info.external_jobid for info in active_jobs if info.aux.get("adopted")]
        if adopted:
            self.logger.warning(
                "These jobs were sent by another Snakemake and go on; the next one finds them again. To end them:"
                f" scancel {' '.join(adopted)}"
            )
        super().cancel_jobs([info for info in active_jobs if not info.aux.get("adopted")])

    def shutdown(self) -> None:
        self.closing.set()
        super().shutdown()


def comment_of(job: Any) -> str:
    """The comment that the Slurm plugin gives a job: rule and wildcards, so the step with its id."""
    wildcards = get_job_wildcards(job)
    return f"rule_{job.name}_wildcards_{wildcards}" if wildcards else f"rule_{job.name}"
