"""How steps run that compute on the devices of a layout."""

from __future__ import annotations

from typing import Literal

from smolmake.execution.step import Run
from smolmake.recipe.runtime import Layout


class DeviceRun(Run):
    """A step that computes on the devices of a layout."""

    layout: Layout = Layout()
    device: Literal["auto", "cpu", "cuda"]

    @property
    def nodes(self) -> int:
        return self.layout.nodes

    @property
    def gpus_per_node(self) -> int:
        return self.layout.gpus_per_node

    @property
    def gpus(self) -> int:
        """The GPUs that it books: none where the layout's processes compute on the CPU."""
        return 0 if self.device == "cpu" else self.layout.gpus

    @property
    def launcher(self) -> str:
        """What starts the step's script on its devices, as the beginning of a shell command."""
        return self.layout.launcher(self.threads)

    def gpus_here(self, machine: int) -> int:
        """The GPUs that it takes of a machine with that many: its layout's, or else one where there is one."""
        if self.device == "cpu":
            return 0
        return self.layout.gpus_per_node or (1 if self.device == "cuda" else min(machine, 1))
