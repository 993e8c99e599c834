"""Checks of the devices, the network and the storage that a training is about to use; all processes call each.

Speeds are compared with the recipe's expectation where it has one, devices also with one another: one slow device
slows a synchronous training of any number.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from smolmake.errors import UserError
from smolmake.execution.node_cache import scratch_folder
from smolmake.hardware.gpus import GIB, MIB
from smolmake.monitoring.device_stats import peak_of
from smolmake.preflight.results import CheckResult, gather, judge, node_name
from smolmake.train.parallel import ParallelContext

SLOWER = 0.9  # of the median device, or of its own first second: below is a device to leave out
PATTERN = 0x5A5A5A5A


def burn_in(parallel: ParallelContext, seconds: float, share_of_peak: float) -> list[CheckResult]:
    """Matrix products for some seconds on every device at once: speed, and how far it falls as the device warms up."""
    size, dtype = (8192, torch.bfloat16) if parallel.device.type == "cuda" else (512, torch.float32)
    a, b = (torch.randn(size, size, device=parallel.device, dtype=torch.float32).to(dtype) for _ in range(2))
    rates: list[float] = []
    parallel.barrier()
    until = time.monotonic() + seconds
    while len(rates) < 3 or time.monotonic() < until:
        began = time.monotonic()
        for _ in range(20):
            torch.mm(a, b)
        _finish(parallel.device)
        rates.append(20 * 2 * size**3 / (time.monotonic() - began) / 1e12)
    third = max(1, len(rates) // 3)
    sustained = gather(parallel, statistics.median(rates[-third:]))
    kept = gather(parallel, statistics.median(rates[-third:]) / statistics.median(rates[1 : 1 + third]))
    peak = peak_of(parallel.device)
    if parallel.device.type != "cuda":  # cores that others use too say nothing
        return [judge(parallel, "matrix products", sustained, None, "TFLOP/s")]
    least = max(SLOWER * statistics.median(sustained), (peak or 0.0) / 1e12 * share_of_peak)
    warm = judge(parallel, "of that after warming up", [100 * share for share in kept], 100 * SLOWER, "%")
    return [judge(parallel, "matrix products", sustained, least, "TFLOP/s"), warm]


def device_memory(parallel: ParallelContext) -> CheckResult:
    """Write and read back most of the device's free memory; on NVIDIA GPUs also the driver's count of errors."""
    wrong, words = 0, 64 * MIB // 4
    free = torch.cuda.mem_get_info(parallel.device)[0] if parallel.device.type == "cuda" else 256 * MIB
    count = int(free * 0.8) // (64 * MIB)
    blocks = [torch.full((words,), PATTERN, dtype=torch.int32, device=parallel.device) for _ in range(count)]
    for block in blocks:
        wrong += int((block != PATTERN).sum())
        block.bitwise_not_()
        wrong += int((block != ~PATTERN).sum())
    size = len(blocks) * 64 * MIB / GIB
    del blocks
    errors = gather(parallel, wrong + _uncorrected(parallel.device))
    bad = tuple(dict.fromkeys(n for n, count in zip(gather(parallel, node_name()), errors, strict=True) if count))
    return CheckResult("device memory", f"{sum(errors)} errors in {size:,.3g} GiB a device", "0 errors", not bad, bad)


def _uncorrected(device: torch.device) -> int:
    """Uncorrected memory errors since the driver started, or 0 where the driver does not say."""
    if device.type != "cuda":
        return 0
    query = ["nvidia-smi", f"--id={torch.cuda.get_device_properties(device).uuid}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            [*query, "--query-gpu=ecc.errors.uncorrected.volatile.total"], capture_output=True, text=True, timeout=30
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return int(answer) if answer.isdecimal() else 0


def all_reduce(parallel: ParallelContext, least_within: float | None, least_between: float | None) -> list[CheckResult]:
    """Bus bandwidth of an all-reduce, 2 (n - 1) / n times its bytes a second (as nccl-tests counts it)."""
    if parallel.world_size == 1:
        return []
    nodes = gather(parallel, node_name())
    found = []
    if len(set(nodes)) > 1:
        own = [rank for rank, node in enumerate(nodes) if node == nodes[parallel.rank]]
        within, _ = dist.new_subgroups_by_enumeration(  # type: ignore[no-untyped-call]
            [[rank for rank, node in enumerate(nodes) if node == name] for name in dict.fromkeys(nodes)]
        )
        rates = gather(parallel, _bus_rate(parallel, within, len(own)))
        found.append(judge(parallel, "all-reduce within a node", rates, least_within, "GB/s"))
        least = least_between
    else:
        least = least_within
    rates = gather(parallel, _bus_rate(parallel, None, parallel.world_size))
    found.append(judge(parallel, f"all-reduce over {parallel.world_size}", rates, least, "GB/s"))
    return found


def _bus_rate(parallel: ParallelContext, within: dist.ProcessGroup | None, devices: int) -> float:
    if devices == 1:
        return float("inf")
    tensor = torch.zeros((256 if parallel.device.type == "cuda" else 4) * MIB // 4, device=parallel.device)
    seconds = []
    for _ in range(8):
        _finish(parallel.device)
        began = time.monotonic()
        dist.all_reduce(tensor, group=within)
        _finish(parallel.device)
        seconds.append(time.monotonic() - began)
    return 2 * (devices - 1) / devices * tensor.nbytes / statistics.median(seconds[3:]) / 1e9


def storage(parallel: ParallelContext, folder: Path, write_mb: float, read_mb: float) -> list[CheckResult]:
    """Sequential writing (to the disk) and reading (not from memory) by every node at once, in MB/s of all together.

    `write_mb` and `read_mb` are what the checkpoints and the loader need.
    """
    size, seconds = _probe_size(parallel), (0.0, 0.0)
    parallel.barrier()
    if _first_of_node(parallel):
        seconds = _write_and_read(folder / f".rate-{parallel.rank}", size)
    found = []
    limits = (("writing, all nodes", write_mb), ("reading, all nodes", read_mb))
    for (name, least), times in zip(limits, zip(*gather(parallel, seconds), strict=True), strict=True):
        rate = sum(size / took / 1e6 for took in times if took)
        found.append(CheckResult(name, f"{rate:,.4g} MB/s", f"{least:,.4g} MB/s", rate >= least))
    return found


def scratch(parallel: ParallelContext, folder: str, read_mb: float) -> CheckResult:
    """Sequential reading of every node's own disk, in MB/s; `read_mb` is what the loaders of all nodes need.

    A folder that cannot be written reads nothing.
    """
    size, rate = _probe_size(parallel), 0.0
    parallel.barrier()
    if _first_of_node(parallel):
        try:
            place = scratch_folder(folder)
            assert place is not None
            place.mkdir(parents=True, exist_ok=True)
            rate = size / _write_and_read(place / f".rate-{os.getpid()}", size)[1] / 1e6
        except (OSError, UserError) as error:
            print(f"{node_name()}: scratch: {error}", file=sys.stderr, flush=True)
    by_node: dict[str, float] = {}
    for node, found in zip(gather(parallel, node_name()), gather(parallel, rate), strict=True):
        by_node[node] = max(found, by_node.get(node, 0.0))
    rates = [by_node[node] for node in gather(parallel, node_name())]
    return judge(parallel, "reading, scratch of a node", rates, read_mb / len(by_node), "MB/s")


def _probe_size(parallel: ParallelContext) -> int:
    return (1024 if parallel.device.type == "cuda" else 64) * MIB


def _first_of_node(parallel: ParallelContext) -> bool:
    return parallel.rank == gather(parallel, node_name()).index(node_name())


def _write_and_read(path: Path, size: int) -> tuple[float, float]:
    """Seconds to write a file of that many bytes to the disk, and to read it not from memory."""
    block, took = os.urandom(MIB) * 8, [time.monotonic()]
    try:
        with path.open("wb") as file:
            for _ in range(size // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        took.append(time.monotonic())
        with path.open("rb", buffering=0) as file:
            while file.read(8 * MIB):
                pass
        took.append(time.monotonic())
    finally:
        path.unlink(missing_ok=True)
    return took[1] - took[0], took[2] - took[1]


def free_disk(parallel: ParallelContext, folder: Path, needed: float) -> CheckResult:
    """Room for the checkpoints of this layout."""
    free = min(gather(parallel, shutil.disk_usage(folder).free))
    return CheckResult("free disk", f"{free / GIB:,.4g} GiB", f"{needed / GIB:,.4g} GiB", free >= needed)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
