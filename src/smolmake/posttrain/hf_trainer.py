"""What SFT and APO share: TRL's settings, its checkpoints inside the step's folder, metrics, the saved model."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import broadcast_object_list
from torch.utils.data import Sampler
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
)
from transformers.utils.import_utils import is_flash_attn_4_available

from smolmake.data.tokenizer import TURN_END
from smolmake.errors import UserError
from smolmake.files import new_folder, write_json
from smolmake.model.kernels import has_flash_attention
from smolmake.monitoring.metrics import METRICS, Metrics
from smolmake.monitoring.progress import Progress
from smolmake.posttrain.parallelism import Devices, sharing_settings
from smolmake.recipe.posttraining import TrainingSettings
from smolmake.train.parallel import destroy_process_group

WHOLE = "whole.json"  # in a recovery checkpoint: it is complete, and how many devices wrote it


def load_for_training(
    checkpoint: Path, template: str | None, attention: str = "sdpa"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A checkpoint's model in fp32 and its tokenizer, with a chat template put on it."""
    tokenizer = load_chat_tokenizer(checkpoint, template)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation=attention)
    return model, tokenizer


def load_chat_tokenizer(checkpoint: Path, template: str | None) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(checkpoint)
    if TURN_END not in tokenizer.get_vocab():
        raise UserError(
            f"the model's tokenizer does not know {TURN_END}, with which chat templates end a turn",
            file=checkpoint,
            key="base",
            remedy="start from a model whose vocabulary has the ChatML tokens, as SmolLM3's",
        )
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def attention(devices: Devices) -> str:
    """How transformers computes attention in training: by FlashAttention 4 on GPUs where it is installed, else torch's.

    Both keep the conversations of a packed row apart by their positions, torch's by a mask of length times length.
    FlashAttention takes 16 bits alone, which autocast gives it on GPUs.
    """
    flash = not devices.on_cpu and has_flash_attention() and is_flash_attn_4_available()
    return "flash_attention_4" if flash else "sdpa"


def common_settings(settings: TrainingSettings, seed: int, devices: Devices, folder: Path) -> dict[str, Any]:
    """Arguments of both SFTConfig and DPOConfig, after SmolLM3's recipes (cosine to a tenth of the peak)."""
    return {
        "output_dir": str(folder / "recovery"),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "max_grad_norm": settings.clip_grad_norm,
        "max_length": settings.max_length,
        "weight_decay": 0.0,
        "seed": seed,
        "save_strategy": "steps",
        "save_steps": 0.25,
        "save_total_limit": 2,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **sharing_settings(devices, settings.clip_grad_norm),
    }


class RowOrder(Sampler[int]):
    """Row numbers of that many full batches: passes over the data without a seam, each shuffled anew.

    A pure function of its arguments; the Trainer deals out micro-batch after micro-batch to the devices in turn, so a
    global batch has the same rows however many there are.
    """

    def __init__(self, rows: int, total: int, seed: int) -> None:
        self.rows, self.total, self.seed = rows, total, seed

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        for first in range(0, self.total, self.rows):
            order = list(range(self.rows))
            random.Random(f"{self.seed}:{first // self.rows}").shuffle(order)
            yield from order[: self.total - first]


class FullBatches:
    """Before TRL's trainers: every optimizer step has the recipe's batch, the last one of a pass too."""

    args: Any
    train_dataset: Any
    total_rows = 0

    def plan_steps(self, settings: TrainingSettings) -> None:
        """Set the number of steps by the rows that there are once they are packed."""
        steps = max(1, math.ceil(settings.epochs * len(self.train_dataset) / settings.global_batch_size - 1e-9))
        self.args.max_steps, self.args.warmup_steps = steps, round(settings.warmup_ratio * steps)
        self.total_rows = steps * settings.global_batch_size

    def _get_train_sampler(self, train_dataset: Any = None) -> RowOrder:
        return RowOrder(len(self.train_dataset), self.total_rows, self.args.seed)


def train_and_save(
    trainer: Trainer, tokenizer: PreTrainedTokenizerBase, folder: Path, devices: Devices
) -> dict[str, Any] | None:
    """Train from the newest whole recovery checkpoint or from the start, and write checkpoint/.

    All processes call it. Returns facts on the first one, None on the others.
    """
    first: bool = trainer.is_world_process_zero()
    resume: Path | None = broadcast_object_list([last_whole_checkpoint(folder / "recovery") if first else None])[0]
    done = same_devices(resume, devices) if resume else 0
    trainer.add_callback(WholeCallback(devices))
    if first:
        trainer.add_callback(MetricsCallback(folder / METRICS, done))
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    model = trainer.accelerator.unwrap_model(trainer.model)
    parameters = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # together: ZeRO and FSDP gather it
    if first:
        save_whole(model, weights, tokenizer, folder)
    if devices.world > 1:
        dist.barrier()
        destroy_process_group()
    return {"steps": trainer.state.global_step, "parameters": parameters} if first else None


def save_whole(
    model: PreTrainedModel, weights: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Write checkpoint/ whole or not at all."""
    stop = tokenizer.convert_tokens_to_ids(TURN_END)
    model.config.eos_token_id = stop
    if model.generation_config is not None:
        model.generation_config.eos_token_id = stop
    # Tied weights are saved once; some strategies give a copy for each of their names.
    weights = {key: tensor for key, tensor in weights.items() if key not in model.all_tied_weights_keys}
    with new_folder(folder / "checkpoint") as beside:
        model.save_pretrained(beside, state_dict=weights)
        tokenizer.save_pretrained(beside)


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest of the Trainer's checkpoints that all processes wrote to their end: WHOLE comes last."""
    found = [place.parent for place in folder.glob(f"checkpoint-*/{WHOLE}")]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def same_devices(checkpoint: Path, devices: Devices) -> int:
    """The step of a recovery checkpoint, which must be one that these devices can resume.

    Raises:
        UserError: if the optimizer's state was sharded over other devices, or is to be.
    """
    was = json.loads((checkpoint / WHOLE).read_text())
    now = whole_facts(devices)
    if was != now and {was["strategy"], now["strategy"]} != {"ddp"}:
        raise UserError(
            f"this step was begun on {was['devices']} devices with {was['strategy']}, and a sharded optimizer goes on "
            "only on as many with the same strategy",
            file=checkpoint, key="runtime.layouts", value=f"{now['devices']} devices, {now['strategy']}",
            remedy=f"go back to that layout to finish the step, or delete {checkpoint.parent} to start it anew",
        )  # fmt: skip
    return int(checkpoint.name.rpartition("-")[2])


def whole_facts(devices: Devices) -> dict[str, Any]:
    return {"strategy": devices.strategy, "devices": devices.world}


class WholeCallback(TrainerCallback):
    """Marks a recovery checkpoint once every process has written its part."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.devices.world > 1:
            dist.barrier()
        if state.is_world_process_zero:
            write_json(Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE, whole_facts(self.devices))


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
