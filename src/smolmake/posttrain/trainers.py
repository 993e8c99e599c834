"""TRL's trainers for conversations and for preference pairs, from a step's spec and its parent's checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from smolmake.data.tokenizer import TURN_END
from smolmake.execution.job import Job
from smolmake.execution.step import Run, Spec
from smolmake.graph.specs.posttrain import AlignmentSpec, SupervisedSpec
from smolmake.posttrain.hf_trainer import FullBatches, attention, common_settings, load_for_training, train_and_save
from smolmake.posttrain.parallelism import Devices
from smolmake.posttrain.token_rows import ROWS, TokenRows


class Supervised(FullBatches, SFTTrainer):
    """Mid-training and SFT."""


class Alignment(FullBatches, DPOTrainer):
    """APO, on rows that are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


# In both, the settings are made before a model is loaded: with ZeRO-3 a process keeps only its part of each weight.


def conversation_trainer(
    spec: SupervisedSpec, devices: Devices, folder: Path, parent: Path, data: Dataset, **settings: Any
) -> tuple[Supervised, PreTrainedTokenizerBase]:
    """For `conversation_rows`; `parent` is the checkpoint to start from, `settings` replace those of SFTConfig."""
    arguments: dict[str, Any] = {
        "eos_token": TURN_END,
        "packing": spec.packing != "none",
        "packing_strategy": "bfd" if spec.packing == "none" else spec.packing,
        **common_settings(spec.training, spec.seed, devices, folder),
    }
    config = SFTConfig(**arguments | settings)
    model, tokenizer = load_for_training(parent, spec.template, attention(devices))
    trainer = Supervised(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    trainer.plan_steps(spec.training)
    return trainer, tokenizer


def preference_trainer(
    spec: AlignmentSpec, devices: Devices, folder: Path, parent: Path, data: Dataset, **settings: Any
) -> tuple[Alignment, PreTrainedTokenizerBase]:
    """For `pair_rows`, by APO-zero against `parent` itself; `settings` replace DPOConfig's."""
    arguments: dict[str, Any] = {
        "loss_type": ["apo_zero"],
        "beta": spec.beta,
        **common_settings(spec.training, spec.seed, devices, folder),
    }
    config = DPOConfig(**arguments | settings)
    model, tokenizer = load_for_training(parent, None, attention(devices))
    reference, _ = load_for_training(parent, None, attention(devices))
    trainer = Alignment(model=model, ref_model=reference, args=config, train_dataset=data, processing_class=tokenizer)
    trainer.plan_steps(spec.training)
    return trainer, tokenizer


def train_step(
    job: Job[Spec, Run],
    trainer: Supervised | Alignment,
    tokenizer: PreTrainedTokenizerBase,
    devices: Devices,
    rows: TokenRows,
) -> None:
    """Train a step to its end and finish its artefact; all processes call it."""
    facts = train_and_save(trainer, tokenizer, job.folder, devices)
    if facts is not None:
        job.finish(["checkpoint"], facts | rows.facts())
        for scratch in ("recovery", ROWS):
            shutil.rmtree(job.folder / scratch, ignore_errors=True)
