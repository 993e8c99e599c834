"""Check the devices, the network, the storage and a layout before it trains. Usage: [torchrun ...] preflight.py JOB"""

import sys
from collections.abc import Iterator

import torch

from smolmake.cluster.excluded_nodes import FINDINGS
from smolmake.errors import UserError
from smolmake.execution.job import Job, run_step
from smolmake.files import write_json
from smolmake.model.config import ModelConfig
from smolmake.model.counts import count_parameters, flops_per_token
from smolmake.monitoring.device_stats import peak_of
from smolmake.preflight.hardware import all_reduce, burn_in, device_memory, free_disk, scratch, storage
from smolmake.preflight.parity import Drill, parity, resumption
from smolmake.preflight.results import Finding
from smolmake.train.parallel import Group, join_group, leave_group

STATE_BYTES, COPIES = 12, 3  # fp32 weights and two moments; two recovery checkpoints and the segment's own
SAVING = 0.05  # of the time between recovery checkpoints may be spent on writing one
TOKEN_BYTES, READ_AHEAD = 4, 2  # the loader may need twice the mean rate for a while


def compute(job: Job) -> None:
    torch.set_num_threads(job.run["threads"])
    report = job.folder / FINDINGS
    report.unlink(missing_ok=True)
    group = join_group(job.run["device"], job.run["layout"])
    findings: list[Finding] = []

    def told(*more: Finding) -> None:
        findings.extend(more)
        if group.first:
            for finding in more:
                print(line(finding), file=sys.stderr, flush=True)

    drill = Drill(job.spec["model"], job.spec, job.run, group)
    for check in machine_checks(job, group):
        told(*check)
    told(resumption(drill, job.folder))
    told(parity(drill))
    failed = group.any(*(not finding.passed for finding in findings))
    if group.first:
        write_json(report, [vars(finding) for finding in findings])
    if any(failed):
        refuse(job, [finding for finding, bad in zip(findings, failed, strict=True) if bad])
    if group.first:
        job.finish([FINDINGS], {"checks": len(findings), "processes": group.world})
    leave_group(group)


def machine_checks(job: Job, group: Group) -> Iterator[list[Finding]]:
    """The findings on devices, network and storage, one check after the other."""
    limits, shape = job.run["preflight"], dict(job.spec["model"])
    shape.pop("scale_output_projections", None)
    length = job.spec["sequence_length"]
    config = ModelConfig(**shape, vocab_size=job.spec["vocab_size"], max_position_embeddings=length)
    state = count_parameters(config.shape).total * STATE_BYTES
    yield [free_disk(group, job.folder, COPIES * state)]
    burned = burn_in(group, limits["burn_in"] if group.device.type == "cuda" else 0.5, limits["share_of_peak"])
    yield burned
    yield [device_memory(group)]
    gpu = group.device.type == "cuda"  # speeds of a network for GPUs say nothing about CPUs
    yield all_reduce(group, *(limits[key] if gpu else None for key in ("all_reduce_within", "all_reduce_between")))
    peak = peak_of(group.device)
    flops = peak * job.run["mfu"] if peak is not None else job.run["cpu_flops"] * job.run["threads"]
    reading = READ_AHEAD * TOKEN_BYTES * group.world * flops / flops_per_token(config.shape, length)
    yield storage(group, job.folder, state / (SAVING * job.run["recovery_every"]) / 1e6, reading / 1e6)
    if job.run["scratch"] is not None:
        yield [scratch(group, job.run["scratch"], reading / 1e6)]


def line(finding: Finding) -> str:
    """A line of the table."""
    mark, nodes = "pass" if finding.passed else "FAIL", f"  on {', '.join(finding.nodes)}" if finding.nodes else ""
    return f"{mark}  {finding.check:26} {finding.found:44} wanted {finding.wanted or 'nothing'}{nodes}"


def refuse(job: Job, failed: list[Finding]) -> None:
    nodes = sorted({node for finding in failed for node in finding.nodes})
    raise UserError(
        f"preflight of {job.name} failed: " + "; ".join(f"{f.check}: {f.found}, wanted {f.wanted}" for f in failed),
        file=job.folder / FINDINGS,
        key="run.layouts",
        value=job.name,
        remedy=(f"leave out the nodes {', '.join(nodes)}, " if nodes else "mend what the table names, ")
        + "or set run.preflight's limits to what this machine can do, and run the same command again",
    )


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
