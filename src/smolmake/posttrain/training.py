"""What SFT and APO share: TRL's settings, its checkpoints inside the step's folder, metrics, the saved model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
)

from smolmake.data.tokenizer import TURN_END
from smolmake.errors import UserError
from smolmake.progress import Progress
from smolmake.train.metrics import Metrics


def load_for_training(checkpoint: Path, template: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A checkpoint's model in fp32 and its tokenizer, with a chat template put on it."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    if TURN_END not in tokenizer.get_vocab():
        raise UserError(
            f"the model's tokenizer does not know {TURN_END}, with which chat templates end a turn",
            file=checkpoint,
            key="base",
            remedy="start from a model whose vocabulary has the ChatML tokens, as SmolLM3's",
        )
    if template is not None:
        tokenizer.chat_template = template
    return model, tokenizer


def common_settings(spec: dict[str, Any], run: dict[str, Any], folder: Path, rows: int) -> dict[str, Any]:
    """Arguments of both SFTConfig and DPOConfig, after SmolLM3's recipes (cosine to a tenth of the peak)."""
    on_cpu = run["device"] == "cpu" or not torch.cuda.is_available()
    per_device = min(spec["batch"], run["micro_batch"])
    steps = max(1, round(spec["epochs"] * rows / spec["batch"]))
    return {
        "output_dir": str(folder / "recovery"),
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": max(1, spec["batch"] // per_device),
        "num_train_epochs": spec["epochs"],
        "learning_rate": spec["learning_rate"],
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "warmup_steps": round(spec["warmup_ratio"] * steps),
        "max_grad_norm": spec["clip_grad_norm"],
        "max_length": spec["max_length"],
        "weight_decay": 0.0,
        "seed": spec["seed"],
        "use_cpu": on_cpu,
        "bf16": not on_cpu,
        "gradient_checkpointing": not on_cpu,
        "save_strategy": "steps",
        "save_steps": 0.25,
        "save_total_limit": 2,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def train_and_save(
    trainer: Trainer, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> dict[str, Any]:
    """Train from the newest whole recovery checkpoint or from the start, and write checkpoint/. Returns facts."""
    resume = last_whole_checkpoint(folder / "recovery")
    done = json.loads((resume / "trainer_state.json").read_text())["global_step"] if resume else 0
    trainer.add_callback(MetricsCallback(folder / "metrics.jsonl", done))
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    stop = tokenizer.convert_tokens_to_ids(TURN_END)
    model.config.eos_token_id = stop
    if model.generation_config is not None:
        model.generation_config.eos_token_id = stop
    beside = folder / "checkpoint.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    os.replace(beside, folder / "checkpoint")
    return {"steps": trainer.state.global_step, "parameters": model.num_parameters()}


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest of the Trainer's checkpoints that was written to its end: trainer_state.json comes last."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for place in found:
        try:
            json.loads((place / "trainer_state.json").read_text())
            return place
        except (OSError, ValueError):
            continue
    return None


class MetricsCallback(TrainerCallback):
    """Writes the Trainer's logs to metrics.jsonl in the project's form."""

    def __init__(self, path: Path, resume_from: int) -> None:
        self.metrics = Metrics(path, resume_from)
        self.label = path.parent.name
        self.progress: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress = Progress(self.label, state.max_steps, "steps", state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        self.metrics.write(
            step=state.global_step - 1,
            tokens=int(logs.get("num_tokens", 0)),
            loss=float(logs["loss"]),
            learning_rate=float(logs.get("learning_rate", 0.0)),
            grad_norm=float(logs.get("grad_norm", 0.0)),
            **{key.replace("/", "_"): float(value) for key, value in logs.items() if key.startswith("rewards/")},
        )
        if self.progress is not None:
            self.progress.add(1, f"loss {float(logs['loss']):.3f}")
