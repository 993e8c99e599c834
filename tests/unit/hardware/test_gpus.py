"""The table of GPUs, and which of its kinds a device is by the name that torch reports."""

import pytest
import torch

from smolmake.errors import UserError
from smolmake.hardware.gpus import GPU_KINDS, gpu_kind, gpu_of_device
from smolmake.monitoring.device_stats import peak_of

NAMES = {
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA A100 80GB PCIe": "a100",
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-PCIE-40GB": "a100-40gb",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H100 NVL": "h100-nvl",
    "NVIDIA H200": "h200",
    "NVIDIA H200 NVL": "h200-nvl",
    "NVIDIA GH200 480GB": "gh200",
    "NVIDIA GH200 144G HBM3e": "gh200",
    "NVIDIA B200": "b200",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx4090",
}
UNKNOWN = (
    "NVIDIA GB200", "NVIDIA H20", "NVIDIA H800", "NVIDIA L40", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H100 CNX",
    "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D", "AMD Instinct MI300X", "",
)  # fmt: skip


def test_gpu_kinds() -> None:
    # 132 multiprocessors x 4 tensor cores x 512 multiply-adds x 2 x 1.83 GHz
    assert gpu_kind("h100").bf16_peak == pytest.approx(132 * 4 * 512 * 2 * 1.83e9, rel=1e-4)
    for kind in GPU_KINDS.values():
        assert kind.fp8_peak is None or kind.fp8_peak == pytest.approx(2 * kind.bf16_peak, rel=1e-3)
    with pytest.raises(UserError, match="did you mean `h100`"):
        gpu_kind("h10")
    with pytest.raises(UserError, match="use bf16"):
        gpu_kind("a100").peak("fp8")


def test_a_device_is_the_kind_that_its_name_says_and_every_kind_has_a_name() -> None:
    assert {name: getattr(gpu_of_device(name), "name", None) for name in NAMES} == NAMES
    assert set(NAMES.values()) == set(GPU_KINDS)
    assert [name for name in UNKNOWN if gpu_of_device(name) is not None] == []


def test_mfu_and_preflight_know_the_peak_of_a_pcie_card_and_none_of_an_unknown_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = iter(["NVIDIA H100 PCIe", "NVIDIA H800"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: next(names))
    assert peak_of(torch.device("cuda")) == 756e12 and capsys.readouterr().err == ""
    assert peak_of(torch.device("cuda")) is None and "NVIDIA H800" in capsys.readouterr().err
    assert peak_of(torch.device("cpu")) is None
