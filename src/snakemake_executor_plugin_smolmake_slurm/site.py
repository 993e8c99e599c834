"""Whether a cluster can give what a job asks for, told before the first one is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from smolmake.errors import UserError, did_you_mean
from snakemake_executor_plugin_smolmake_slurm.queue import ask


@dataclass(frozen=True)
class Partition:
    """A partition: the most GPUs of one of its nodes, its nodes, its time limit in minutes (None: none)."""

    name: str
    default: bool
    gpus: int
    nodes: int
    minutes: int | None


def partitions() -> dict[str, Partition] | None:
    """The partitions that this user may see; None if the controller does not answer."""
    said = ask("sinfo", "--noheader", "--format", "%P|%D|%l|%G")
    if said is None:
        return None
    found: dict[str, Partition] = {}
    for name, count, limit, gres in (line.split("|", 3) for line in said.splitlines()):
        short, gpus = name.rstrip("*"), sum(map(int, re.findall(r"gpu(?::[^:,(]+)?:(\d+)", gres)))
        before = found.get(short)
        found[short] = Partition(
            short, name.endswith("*"), max(gpus, before.gpus if before else 0),
            int(count) + (before.nodes if before else 0), minutes(limit),
        )  # fmt: skip
    return found


def minutes(limit: str) -> int | None:
    """Slurm's D-HH:MM:SS, HH:MM:SS or MM:SS in minutes; None for `infinite`."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if match is None:
        return None
    days, hours, rest = int(match[1] or 0), int(match[2] or 0), int(match[3])
    return (days * 24 + hours) * 60 + rest


def check_request(job: Any, key: str, name: str | None, known: dict[str, Partition], longest: int | None) -> None:
    """Raise UserError if the partitions `name` (None: the default) cannot run the job; `key` is where they are set."""
    names = [part.name for part in known.values() if part.default] if name is None else name.split(",")
    if not names:
        raise UserError(
            "this cluster has no default partition, and the profile names none",
            key=key, value="not set", remedy=f"set it in the profile to one of: {', '.join(sorted(known))}",
        )  # fmt: skip
    for part in names:
        if part not in known:
            raise UserError("the cluster has no such partition", key=key, value=part, remedy=did_you_mean(part, known))
    found = [known[part] for part in names]
    gpus = int(str(job.resources.get("gres") or "gpu:0").rsplit(":", 1)[1])
    if gpus > max(part.gpus for part in found):
        raise UserError(
            f"{job.rule.name} asks for {gpus} GPUs of a node, and no node of the partition has that many",
            key="runtime.layouts", value=f"gpus_per_node {gpus}, partition {','.join(names)}",
            remedy="use a layout with fewer, or another smolmake-slurm-gpu-partition",
        )  # fmt: skip
    nodes = int(job.resources.get("nodes") or 1)
    if nodes > max(part.nodes for part in found):
        raise UserError(
            f"{job.rule.name} asks for {nodes} nodes, and the partition has fewer",
            key="runtime.layouts", value=f"nodes {nodes}, partition {','.join(names)}", remedy="use a smaller layout",
        )  # fmt: skip
    limits = [part.minutes for part in found if part.minutes is not None]
    runtime = int(job.resources.get("runtime") or 0)
    if limits and runtime > max(limits):
        raise UserError(
            f"{job.rule.name} would ask for more time than its partition gives",
            key="smolmake-slurm-longest", value=f"{longest or 'not set'}; the job asks for {runtime} minutes",
            remedy=f"set it to {max(limits)} or less: a training that takes longer goes on in a second job. A smaller"
            " pretraining.segment_steps avoids the restart",
        )  # fmt: skip
