"""The checks of a preflight, one after the other, and what becomes of their results."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from smolmake.cluster.excluded_nodes import CHECKS
from smolmake.errors import UserError
from smolmake.execution.job import Job
from smolmake.files import write_json
from smolmake.graph.specs.pretrain import PreflightRun, PreflightSpec
from smolmake.hardware.memory import RECOVERY_COPIES, training_state_bytes
from smolmake.model.config import ModelConfig
from smolmake.model.counts import count_parameters, flops_per_token
from smolmake.monitoring.device_stats import peak_of
from smolmake.preflight.hardware import all_reduce, burn_in, device_memory, free_disk, scratch, storage
from smolmake.preflight.parity import ParityRun, parity, resume
from smolmake.preflight.recent import RecentChecks
from smolmake.preflight.results import CheckResult
from smolmake.train.parallel import ParallelContext, destroy_parallel, init_parallel

PreflightJob = Job[PreflightSpec, PreflightRun]
SAVING = 0.05  # of the time between recovery checkpoints may be spent on writing one
TOKEN_BYTES, READ_AHEAD = 4, 2  # the loader may need twice the mean rate for a while


def run_checks(job: PreflightJob) -> None:
    """Do all checks on all processes, and write their results and, if all passed, the manifest.

    Raises:
        UserError: naming the checks and the nodes that failed.
    """
    torch.set_num_threads(job.run.threads)
    report = job.folder / CHECKS
    forced = _passed_before(report)  # nobody checks what has passed but by --forcerun
    report.unlink(missing_ok=True)
    parallel = init_parallel(job.run.device, job.run.layout)
    recent = RecentChecks(parallel, job.folder.parents[2], anew=forced)
    results: list[CheckResult] = []
    for result in all_checks(job, parallel, recent):
        results.append(result)
        if parallel.is_main:
            print(result, file=sys.stderr, flush=True)
    failed = parallel.any(*(not result.passed for result in results))
    if parallel.is_main:
        write_json(report, [vars(result) for result in results])
    if any(failed):
        refuse(job, [result for result, bad in zip(results, failed, strict=True) if bad])
    if parallel.is_main:
        job.finish([CHECKS], {"checks": len(results), "processes": parallel.world_size})
    destroy_parallel(parallel)


def _passed_before(report: Path) -> bool:
    try:
        return all(result["passed"] for result in json.loads(report.read_text()))
    except (OSError, ValueError):
        return False


def all_checks(job: PreflightJob, parallel: ParallelContext, recent: RecentChecks) -> Iterator[CheckResult]:
    """Devices, network and storage, then the trainer itself."""
    spec = job.spec
    small = ParityRun(spec.model, spec.rope_theta, spec.optimizer, spec.precision, parallel)
    yield from machine_checks(job, parallel, recent)
    yield resume(small, job.folder)
    yield parity(small)


def machine_checks(job: PreflightJob, parallel: ParallelContext, recent: RecentChecks) -> Iterator[CheckResult]:
    spec, run = job.spec, job.run
    limits, length, gpu = run.limits, spec.sequence_length, parallel.device.type == "cuda"
    config = ModelConfig.of(
        spec.model, vocab_size=spec.vocab_size, rope_theta=spec.rope_theta, max_position_embeddings=length
    )
    state = training_state_bytes(count_parameters(config.shape), spec.optimizer.name)
    yield free_disk(parallel, job.folder, (RECOVERY_COPIES + 1) * state)
    speed = limits.burn_in if gpu else 0.5, limits.share_of_peak
    yield from recent.of("burn-in", speed, lambda: burn_in(parallel, *speed))
    yield from recent.of("memory", None, lambda: [device_memory(parallel)])
    # Speeds of a network for GPUs say nothing about CPUs.
    least = (limits.all_reduce_within, limits.all_reduce_between) if gpu else (None, None)
    yield from recent.of("all-reduce", least, lambda: all_reduce(parallel, *least), together=True)
    peak = peak_of(parallel.device)
    flops = peak * run.mfu if peak is not None else run.cpu_flops * run.threads
    reading = READ_AHEAD * TOKEN_BYTES * parallel.world_size * flops / flops_per_token(config.shape, length)
    yield from storage(parallel, job.folder, state / (SAVING * run.recovery_every) / 1e6, reading / 1e6)
    if run.scratch is not None:
        yield scratch(parallel, run.scratch, reading / 1e6)


def refuse(job: PreflightJob, failed: list[CheckResult]) -> None:
    """Raise UserError with what failed."""
    nodes = sorted({node for result in failed for node in result.nodes})
    raise UserError(
        f"preflight of {job.name} failed: "
        + "; ".join(f"{result.check}: {result.measured}, required {result.required}" for result in failed),
        file=job.folder / CHECKS,
        key="runtime.layouts",
        value=job.name,
        remedy=(f"leave out the nodes {', '.join(nodes)}, " if nodes else "fix what the table names, ")
        + "or set runtime.preflight's limits to what this machine can do, and run the same command again",
    )
