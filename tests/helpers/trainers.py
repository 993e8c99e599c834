"""A trainer in this process, as the segment's script builds it."""

from pathlib import Path
from typing import Any

import torch

from helpers.training import BATCH, LENGTH, segment
from smolmake.data.loader import BatchReader, open_mixture, open_mixture_shards
from smolmake.execution.manifest import read_manifest
from smolmake.model.config import ModelConfig
from smolmake.model.decoder import Decoder
from smolmake.model.init import initialise
from smolmake.train.optimizer import make_optimizer
from smolmake.train.parallel import Group
from smolmake.train.trainer import Trainer


def trainer(place: Path, folder: Path, steps: int = 8, peak: float | None = None, **run: Any) -> Trainer:
    """A trainer as segment.py builds it, in a folder of its own."""
    job = segment(0, steps, **run)
    spec = job["spec"]
    if peak is not None:
        for piece in spec["schedule"]:
            piece["from"][1], piece["to"][1] = peak, peak
    vocabulary = read_manifest(place / "results/tokenizer/bpe/manifest.json")["facts"]["vocab_size"]
    shape = {key: value for key, value in spec["model"].items() if key != "scale_output_projections"}
    model = Decoder(ModelConfig(**shape, vocab_size=vocabulary, rope_theta=1e4, max_position_embeddings=LENGTH))
    initialise(model, 0)
    mixture, description = open_mixture(place / Path(job["inputs"]["mixture"]).parent)
    reader = BatchReader(mixture, open_mixture_shards(description, place / "results"), BATCH, 0)
    folder.mkdir()
    optimizer = make_optimizer(model, spec["optimizer"])
    return Trainer(model, optimizer, reader, spec, job["run"], folder, Group(torch.device("cpu")), "test")
