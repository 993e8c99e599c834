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
    def launcher(self) -> str:
        """What starts the step's script on its devices, as the beginning of a shell command."""
        return self.layout.launcher(self.threads)
