"""Trackers of experiments that metrics are sent to, in addition to the files. They never end a training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from smolmake.monitoring.events import Events

PROJECT, AXIS = "smolmake", "optimizer_step"


class Tracker(Protocol):
    def write(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class Tensorboard:
    """Event files under tensorboard/ of the step's folder."""

    def __init__(self, name: str, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Steps that are done again after a stop or a roll-back hide the ones before.
        self.make: Callable[..., Any] = SummaryWriter
        self.place, self.last = folder / "tensorboard", -1
        self.writer: Any = None

    def write(self, step: int, values: dict[str, float]) -> None:
        if self.writer is None or step <= self.last:
            self.close()
            self.writer = self.make(str(self.place), purge_step=step)
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.last = step

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class Trackio:
    """A run of the local project `smolmake`; a run of its name is gone on with."""

    def __init__(self, name: str, folder: Path) -> None:
        import trackio

        self.module: Any = trackio
        trackio.init(project=PROJECT, name=name, resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def write(self, step: int, values: dict[str, float]) -> None:
        self.module.log(values, step=step)

    def close(self) -> None:
        self.module.finish()


class Wandb:
    """A run of the project `smolmake`, by its own environment variables: WANDB_API_KEY, WANDB_MODE, ..."""

    def __init__(self, name: str, folder: Path) -> None:
        import wandb

        identity = hashlib.sha256(name.encode()).hexdigest()[:16]
        self.run: Any = wandb.init(project=PROJECT, name=name, id=identity, resume="allow", dir=str(folder))
        self.run.define_metric("*", step_metric=AXIS)  # its own counter refuses to go back after a resume

    def write(self, step: int, values: dict[str, float]) -> None:
        self.run.log({**values, AXIS: step})

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, Callable[[str, Path], Tracker]] = {"tensorboard": Tensorboard, "trackio": Trackio, "wandb": Wandb}


class Trackers:
    """Those that the recipe names. One that fails is told once and left."""

    def __init__(self, names: Sequence[str], folder: Path, events: Events, active: bool) -> None:
        self.events, self.open = events, dict[str, Tracker]()
        for name in names if active else []:
            self._try(name, 0, self._start, name, folder)

    def write(self, values: dict[str, Any]) -> None:
        numbers = scalars(values)
        for name, tracker in list(self.open.items()):
            self._try(name, values["step"], tracker.write, values["step"], numbers)

    def close(self) -> None:
        for name, tracker in list(self.open.items()):
            self._try(name, 0, tracker.close)
        self.open.clear()

    def _start(self, name: str, folder: Path) -> None:
        self.open[name] = TRACKERS[name](folder.name, folder)

    def _try(self, name: str, step: int, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # whatever a tracker does, the training goes on
            self.open.pop(name, None)
            self.events.add("tracker", step, f"{name} is left: {type(error).__name__}: {error}")


def scalars(values: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl; those of a mapping as `key/name`."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= {f"{key}/{name}": float(number) for name, number in value.items()}
        elif isinstance(value, int | float) and key != "step":
            found[key] = float(value)
    return found
