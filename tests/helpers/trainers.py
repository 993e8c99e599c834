"""A trainer in this process, as the segment's script builds it."""

from pathlib import Path
from typing import Any

import torch

from helpers.training import segment, segment_job
from smolmake.train.parallel import ParallelContext
from smolmake.train.segment import build_trainer, first_model, open_reader
from smolmake.train.trainer import Trainer


def trainer(place: Path, folder: Path, steps: int = 8, peak: float | None = None, **run: Any) -> Trainer:
    """A trainer of the first segment, in a folder of its own."""
    job = segment_job(place, segment(0, steps, **run))
    spec = job.spec
    if peak is not None:
        rates = {"start_lr": peak, "end_lr": peak}
        spec = spec.model_copy(update={"schedule": tuple(piece.model_copy(update=rates) for piece in spec.schedule)})
    folder.mkdir()
    reader, model = open_reader(job), first_model(job)
    return build_trainer(model, reader, spec, job.run, ParallelContext(torch.device("cpu")), folder, "test")
