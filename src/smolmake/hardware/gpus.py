"""Kinds of GPU: arithmetic peaks and memory, for MFU and for what fits. The only table of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from smolmake.errors import UserError, did_you_mean

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class GpuKind:
    """One kind of GPU. Peaks are dense (datasheets often state twice that, with sparsity), in FLOP/s.

    `memory` is in bytes, as nvidia-smi reports it; the CUDA context and the driver take about 1 % of it away. `words`
    are those by which the driver's name of a device, such as "NVIDIA H100 PCIe", tells this kind from the others.
    """

    name: str
    words: str
    bf16_peak: float
    fp8_peak: float | None
    memory: int

    def peak(self, precision: Literal["bf16", "fp8"] = "bf16") -> float:
        """Dense peak in FLOP/s.

        Raises:
            UserError: if the GPU has no such arithmetic.
        """
        peak = self.bf16_peak if precision == "bf16" else self.fp8_peak
        if peak is None:
            raise UserError(
                f"{self.name} has no {precision} arithmetic", key="precision", value=precision, remedy="use bf16"
            )
        return peak


GPU_KINDS = {
    kind.name: kind
    for kind in [
        # NVIDIA A100 data sheet: 312 TFLOPS BF16, no FP8; 80 and 40 GB, SXM and PCIe.
        GpuKind("a100", "A100", 312e12, None, 81_920 * MIB),
        GpuKind("a100-40gb", "A100 40GB", 312e12, None, 40_960 * MIB),
        # NVIDIA H100 Tensor Core GPU Architecture, SXM5: 132 SMs x 4 tensor cores x 512 FMA x 2 x 1.830 GHz.
        GpuKind("h100", "H100", 989.4e12, 1978.9e12, 81_559 * MIB),
        # H100 PCIe data sheet: 1,513 and 3,026 TFLOPS with sparsity, halved. H100 NVL: 1,671 and 3,341, halved.
        GpuKind("h100-pcie", "H100 PCIe", 756e12, 1513e12, 81_559 * MIB),
        GpuKind("h100-nvl", "H100 NVL", 835.5e12, 1670.5e12, 95_830 * MIB),
        # H200 and GH200 data sheets: the H100's processor with 141 and 96 GB. H200 NVL: that of the H100 NVL.
        GpuKind("h200", "H200", 989.4e12, 1978.9e12, 143_771 * MIB),
        GpuKind("h200-nvl", "H200 NVL", 835.5e12, 1670.5e12, 143_771 * MIB),
        GpuKind("gh200", "GH200", 989.4e12, 1978.9e12, 97_871 * MIB),
        # HGX B200 data sheet: 4.5 and 9 PFLOPS per GPU with sparsity, halved; 180 GB.
        GpuKind("b200", "B200", 2250e12, 4500e12, 183_359 * MIB),
        # L40S data sheet: 733 and 1,466 TFLOPS with sparsity, halved.
        GpuKind("l40s", "L40S", 366.5e12, 733e12, 46_068 * MIB),
        # NVIDIA Ada GPU Architecture, RTX 4090 with fp32 accumulation.
        GpuKind("rtx4090", "RTX 4090", 165.2e12, 330.3e12, 24_564 * MIB),
    ]
}

# What a device's name may say besides: the same processor with other memory, or in another socket.
NEUTRAL_WORDS = re.compile(r"nvidia|geforce|pcie|sxm\d?|hbm\d\w?|\d+gb?")


def gpu_kind(name: str) -> GpuKind:
    """The GPU kind of that name.

    Raises:
        UserError: naming the nearest known kind.
    """
    if name not in GPU_KINDS:
        raise UserError("unknown kind of GPU", key="gpu", value=name, remedy=did_you_mean(name, GPU_KINDS))
    return GPU_KINDS[name]


def gpu_of_device(device_name: str) -> GpuKind | None:
    """The kind of a device by the name that its driver gives, or None if no kind of the table is meant.

    The kind with the most words in the name is it. A name with other words means another processor, or a part of one
    (MIG): its peak is unknown.
    """
    words = set(re.split(r"[\s-]+", device_name.lower()))
    matches = [kind for kind in GPU_KINDS.values() if words >= set(kind.words.lower().split())]
    best = max(matches, key=lambda kind: len(kind.words.split()), default=None)
    if best is None or not all(map(NEUTRAL_WORDS.fullmatch, words - set(best.words.lower().split()))):
        return None
    return best
