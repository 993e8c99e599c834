"""What the machine does while it trains: speed, use of the GPU, memory, temperature. Changes no result."""

from __future__ import annotations

import statistics
import sys
from collections import deque
from typing import Any

import torch

from smolmake.hardware.gpus import gpu_of_device
from smolmake.monitoring.events import Events

DROP, RECENT_STEPS = 0.8, 50


class DeviceStats:
    """Readings of each step; tells when the speed sags against the run's own median."""

    def __init__(self, device: torch.device, flops_per_token: float, devices: int, events: Events) -> None:
        self.events = events
        self.device, self.flops, self.devices = device, flops_per_token, devices
        self.gpu = device.type == "cuda"
        self.peak = peak_of(device)
        self.rates: deque[float] = deque(maxlen=RECENT_STEPS)
        self.usual: float | None = None
        self.throughput_drop = False

    def readings(self, step: int, tokens: int, seconds: float, waited: float) -> dict[str, Any]:
        """For metrics.jsonl: MFU is (6N + 12 L d T) tokens a second a device over its dense bf16 peak."""
        rate = tokens / seconds
        values: dict[str, Any] = {"tokens_per_second": rate, "seconds": seconds, "data_wait": waited}
        if self.peak is not None:
            values["mfu"] = rate / self.devices * self.flops / self.peak
        if self.gpu:
            values["memory_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
            values |= _sensors(self.device)
        self._watch(step, rate)
        return values

    def _watch(self, step: int, rate: float) -> None:
        self.rates.append(rate)
        if len(self.rates) < RECENT_STEPS:
            return
        now = statistics.median(self.rates)
        self.usual = max(now, self.usual or 0.0)
        throughput_drop = now < DROP * self.usual
        if throughput_drop != self.throughput_drop:
            what = "sags" if throughput_drop else "has recovered"
            self.events.add("throughput_drop", step, f"throughput {what}: {now:,.0f} tokens/s, was {self.usual:,.0f}")
        self.throughput_drop = throughput_drop


def peak_of(device: torch.device) -> float | None:
    """The dense bf16 peak of a device in FLOP/s; None, and said, for a GPU that hardware/gpus.py does not have."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    kind = gpu_of_device(name)
    if kind is None:
        print(f"no peak is known of a {name}: add it to smolmake/hardware/gpus.py for its MFU", file=sys.stderr)
    return None if kind is None else kind.peak()


def _sensors(device: torch.device) -> dict[str, Any]:
    """Temperature and clock, where the driver's library can be asked."""
    try:
        return {"gpu_celsius": torch.cuda.temperature(device), "gpu_mhz": torch.cuda.clock_rate(device)}
    except (RuntimeError, ModuleNotFoundError, AssertionError):
        return {}
