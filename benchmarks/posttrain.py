"""How fast SFT and APO are, by the pipeline's own trainers (TRL, accelerate, DeepSpeed) on synthetic rows.

    [torchrun ...] python benchmarks/posttrain.py CASE --folder FOLDER [--steps 4] [--warm 2] [--accumulate 2]

The case is KIND:SHAPE:LENGTH:DOCUMENTS:ROWS[:STRATEGY], such as sft:3b:32768:1500:1:zero3 or apo:3b:4096:900:1:zero3
    KIND       sft (conversations, packed) or apo (pairs, against a reference model)
    SHAPE      a shape of benchmarks/train.py
    LENGTH     tokens of a packed row, or at most of one answer of a pair
    DOCUMENTS  mean length of conversations or answers (exponential, at least 16 words)
    ROWS       rows or pairs of a forward pass
    STRATEGY   under torchrun: ddp, fsdp, zero1, zero2, zero3 (default)

The model has random weights, which FOLDER keeps for the next case of that shape; none are saved at the end. A step is
--accumulate forward and backward passes on each device. Tokens a second are those of the steps' own rows, without
padding (a pair has two answers, each with its prompt), over the steps' time. Steps have different rows on different
numbers of GPUs, so pairs a second are those tokens over the mean pair of all rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from smolmake.execution.job import stay_offline

stay_offline()  # before a library reads the environment

import numpy as np  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from train import COMMON, SHAPES  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from smolmake.data.chat import ChatFormat  # noqa: E402
from smolmake.data.tokenizer import tokenizer_config, train_bpe  # noqa: E402
from smolmake.graph.specs.data import PathDataset  # noqa: E402
from smolmake.graph.specs.posttrain import (  # noqa: E402
    AlignmentSpec,
    ConversationsSpec,
    PostTrainingRun,
    SupervisedSpec,
)
from smolmake.model.config import ModelConfig  # noqa: E402
from smolmake.model.conversion import save_tensors  # noqa: E402
from smolmake.model.decoder import Decoder  # noqa: E402
from smolmake.model.device import choose_device  # noqa: E402
from smolmake.posttrain import trainers  # noqa: E402
from smolmake.posttrain.chat_data import Preparation, conversation_rows, pair_rows  # noqa: E402
from smolmake.posttrain.hf_trainer import load_chat_tokenizer  # noqa: E402
from smolmake.posttrain.parallelism import divide  # noqa: E402
from smolmake.posttrain.trainers import conversation_trainer, preference_trainer  # noqa: E402
from smolmake.recipe.posttraining import TrainingSettings  # noqa: E402
from smolmake.recipe.runtime import Layout  # noqa: E402

TEMPLATE = Path(__file__).parents[1] / "config" / "templates" / "smollm3-short.jinja"
WORDS = [f"{first}{last}" for first in "bcdfgklmnprstvz" for last in ("at", "en", "ir", "os", "um")]
ATTENTIONS = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")
LONGEST_POSITION, PAIRS = 65_536, 256


def parse(text: str) -> dict[str, Any]:
    kind, shape, length, documents, rows, *strategy = text.split(":")
    if kind not in ("sft", "apo") or shape not in SHAPES or len(strategy) > 1:
        raise SystemExit(f"error: {text} is no case: KIND:SHAPE:LENGTH:DOCUMENTS:ROWS[:STRATEGY]")
    return {
        "kind": kind, "shape": shape, "length": int(length), "documents": int(documents), "rows": int(rows),
        "strategy": strategy[0] if strategy else "zero3",
    }  # fmt: skip


def parent(folder: Path, shape: str, device: str) -> Path:
    """A checkpoint with random weights in bf16: the first process writes it, unless it is there, and the others wait.

    Post-training reads it as it would a finished step's.
    """
    place = folder / f"random-{shape}"
    while int(os.environ.get("RANK", "0")) and not place.exists():
        time.sleep(0.1)
    if place.exists():
        return place
    beside, tokens = folder / f"random-{shape}.tmp", folder / "tokenizer"
    tokens.mkdir(parents=True, exist_ok=True)
    train_bpe([sentence(400, seed) for seed in range(20)], 400).save(str(tokens / "tokenizer.json"))
    (tokens / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(LONGEST_POSITION)))
    (tokens / "chat_template.jinja").write_text(TEMPLATE.read_text())
    config = ModelConfig(**SHAPES[shape], **COMMON, max_position_embeddings=LONGEST_POSITION)
    torch.manual_seed(0)
    with torch.device(device):
        model = Decoder(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=config.initializer_range)
    state = {name: tensor.bfloat16().cpu() for name, tensor in model.state_dict().items()}
    save_tensors(config, state, beside, tokens, 0)
    os.replace(beside, place)
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    return place


def sentence(words: int, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def rows_of(case: dict[str, Any], batch: int) -> list[dict[str, Any]]:
    """Conversations for about one batch of full rows, or pairs; every process makes the same."""
    lengths = np.random.default_rng(0).exponential(case["documents"], 100_000)
    lengths = lengths.clip(16, max(16, case["length"] - 64)).astype(int)
    question = [{"role": "user", "content": sentence(8, 0)}]

    def answered(words: int, seed: int) -> list[dict[str, str]]:
        return [*question, {"role": "assistant", "content": sentence(words, seed)}]

    if case["kind"] == "sft":
        count = int(np.searchsorted(lengths.cumsum(), batch * case["length"])) + 1
        return [{"messages": answered(n, seed)} for seed, n in enumerate(lengths[:count])]
    pairs = lengths[: 2 * PAIRS].reshape(-1, 2)
    return [{"chosen": answered(a, 2 * k), "rejected": answered(b, 2 * k + 1)} for k, (a, b) in enumerate(pairs)]


def encoded(case: dict[str, Any], batch: int, folder: Path, checkpoint: Path, template: str | None) -> Dataset:
    """The rows as the pipeline's own steps encode them, in a folder of the case's."""
    place = folder / f"{case['kind']}-{case['length']}-{case['documents']}-{batch}"
    place.mkdir(exist_ok=True)
    file = place / f"rows-{os.environ.get('RANK', '0')}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of(case, batch)))
    files = PathDataset(path=str(file), format="auto", content="")
    form = ChatFormat(load_chat_tokenizer(checkpoint, template))
    how = Preparation(form, case["kind"], TEMPLATE.name, seed=0, max_length=case["length"])
    prepare = conversation_rows if case["kind"] == "sft" else pair_rows
    return prepare({"rows": ConversationsSpec(files=files)}, {}, how, place).data


class Clock(TrainerCallback):
    """The time at which each step has ended on the device."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def tokens_of(kind: str, data: Any) -> list[int]:
    """Tokens of each row of the trainer's own dataset."""
    if kind == "sft":
        return [len(row["input_ids"]) for row in data]
    return [2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in data]


def measure(text: str, arguments: argparse.Namespace) -> dict[str, Any]:
    case, world = parse(text), int(os.environ.get("WORLD_SIZE", "1"))
    device = choose_device(arguments.device)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    checkpoint = parent(arguments.folder, case["shape"], device)
    batch = case["rows"] * arguments.accumulate * world
    layout = Layout(strategy=case["strategy"], micro_batch=case["rows"])
    devices = divide(batch, PostTrainingRun(layout=layout, device=device, micro_batch=case["rows"]))
    settings = TrainingSettings(
        learning_rate=1e-5, warmup_ratio=0.1, global_batch_size=batch, max_length=case["length"]
    )
    folder, template = arguments.folder, TEMPLATE.read_text()
    data = encoded(case, batch, folder, checkpoint, template if case["kind"] == "sft" else None)
    if case["kind"] == "sft":
        spec = SupervisedSpec(training=settings, seed=0, loss="assistant", packing="bfd", template=template, data={})
        trainer, _ = conversation_trainer(spec, devices, folder, checkpoint, data, save_strategy="no")
    else:
        spec = AlignmentSpec(training=settings, seed=0, beta=0.05, data={})
        trainer, _ = preference_trainer(spec, devices, folder, checkpoint, data, save_strategy="no")
    steps, clock = arguments.warm + arguments.steps, Clock()
    trainer.plan_steps(settings.model_copy(update={"epochs": steps * batch / len(trainer.train_dataset)}))
    trainer.add_callback(clock)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    trainer.train()
    times = [end - start for start, end in zip([began, *clock.ends], clock.ends, strict=False)][arguments.warm :]
    sizes, order = tokens_of(case["kind"], trainer.train_dataset), list(trainer._get_train_sampler())
    rate = sum(sizes[row] for row in order[arguments.warm * batch :]) / sum(times) / world
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "asked": text,
        "case": f"{case['shape']} {case['kind']} {case['length']} mean {case['documents']} "
        f"mb {case['rows']}x{arguments.accumulate}",
        "gpus": world, "strategy": devices.strategy, "context": 1,
        "tokens_per_second": round(rate), "tokens_a_row": round(statistics.fmean(sizes)),
        "pairs_per_second": round(rate / statistics.fmean(sizes), 3) if case["kind"] == "apo" else None,
        "milliseconds": round(statistics.median(times) * 1e3, 1),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if device == "cuda" else None,
        "first_step_s": round(clock.ends[0] - began, 1),
        "first_loss": round(losses[0], 4), "last_loss": round(losses[-1], 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="one: accelerate and DeepSpeed are set up once in a process")
    parser.add_argument("--folder", type=Path, required=True, help="for random weights, kept for the next case")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--attention", choices=ATTENTIONS, help="instead of the pipeline's")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.attention:
        trainers.attention = lambda devices: arguments.attention
    result = measure(arguments.case, arguments)
    if int(os.environ.get("RANK", "0")) == 0:
        line = json.dumps(result)
        print(line, flush=True)
        if arguments.out:
            with arguments.out.open("a") as file:
                file.write(line + "\n")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
