"""Kinds of GPU: arithmetic peaks and memory, for MFU and for what fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from smolmake.errors import UserError, did_you_mean

MIB = 2**20


@dataclass(frozen=True)
class GpuKind:
    """One kind of GPU. Peaks are dense (datasheets often state twice that, with sparsity), in FLOP/s.

    `memory` is in bytes, as nvidia-smi reports it; the CUDA context and the driver take about 1 % of it away.
    """

    name: str
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
        # NVIDIA A100 data sheet: 312 TFLOPS BF16, no FP8; SXM 80 and 40 GB.
        GpuKind("a100", 312e12, None, 81_920 * MIB),
        GpuKind("a100-40gb", 312e12, None, 40_960 * MIB),
        # NVIDIA H100 Tensor Core GPU Architecture, SXM5: 132 SMs x 4 tensor cores x 512 FMA x 2 x 1.830 GHz.
        GpuKind("h100", 989.4e12, 1978.9e12, 81_559 * MIB),
        # H100 PCIe data sheet: 1,513 and 3,026 TFLOPS with sparsity, halved.
        GpuKind("h100-pcie", 756e12, 1513e12, 81_559 * MIB),
        # H200 SXM data sheet: the H100's processor with 141 GB.
        GpuKind("h200", 989.4e12, 1978.9e12, 143_771 * MIB),
        # HGX B200 data sheet: 4.5 and 9 PFLOPS per GPU with sparsity, halved; 180 GB.
        GpuKind("b200", 2250e12, 4500e12, 183_359 * MIB),
    ]
}


def gpu_kind(name: str) -> GpuKind:
    """The GPU kind of that name.

    Raises:
        UserError: naming the nearest known kind.
    """
    if name not in GPU_KINDS:
        raise UserError("unknown kind of GPU", key="gpu", value=name, remedy=did_you_mean(name, GPU_KINDS))
    return GPU_KINDS[name]
