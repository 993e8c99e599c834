"""Train one segment of pretraining or of a long-context extension. Usage: train_segment.py JOB"""

import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

from smolmake.data.loader import BatchReader, open_mixture, open_mixture_shards
from smolmake.model.checkpoint import load_model, save_model
from smolmake.model.config import ModelConfig, parameter_count
from smolmake.model.decoder import Decoder
from smolmake.model.init import initialise
from smolmake.program import Job, run_step
from smolmake.train.loop import Trainer
from smolmake.train.parallel import Group
from smolmake.train.optimizer import load_optimizer, make_optimizer, optimizer_tensors


def compute(job: Job) -> None:
    torch.set_num_threads(job.run["threads"])
    device = choose_device(job.run["device"])
    model = first_model(job).to(device)
    optimizer = make_optimizer(model, job.spec["optimizer"])
    if not job.spec["fresh_optimizer"]:
        load_optimizer(model, optimizer, load_file(job.input("parent") / "checkpoint" / "optimizer.safetensors"))
    mixture, description = open_mixture(job.input("mixture"))
    shards = open_mixture_shards(description, job.folder.parents[1])
    reader = BatchReader(mixture, shards, job.spec["global_batch"], job.spec["stage_start"])
    Trainer(model, optimizer, reader, job.spec, job.run, job.folder, Group(device), f"training {job.name}").train()
    save_checkpoint(job, model, optimizer)
    tokens = (job.spec["end"] - job.spec["start"]) * job.spec["global_batch"] * job.spec["sequence_length"]
    before = job.facts("parent")["tokens_total"] if "parent" in job.inputs else 0
    facts = {
        "tokens": tokens,
        "tokens_total": before + tokens,
        "parameters": parameter_count(model.config),
        "step": job.spec["end"],
    }
    job.finish(["checkpoint"], facts)
    shutil.rmtree(job.folder / "recovery", ignore_errors=True)


def first_model(job: Job) -> Decoder:
    """The parent's model with this segment's theta and length, or a new one."""
    theta, length = job.spec["rope_theta"], job.spec["sequence_length"]
    if "parent" in job.inputs:
        return load_model(job.input("parent") / "checkpoint", rope_theta=theta, max_positions=length)
    vocabulary = job.facts("tokenizer")["vocab_size"]
    config = ModelConfig(**job.spec["model"], vocab_size=vocabulary, rope_theta=theta, max_position_embeddings=length)
    model = Decoder(config)
    initialise(model, job.spec["seed"])
    return model


def save_checkpoint(job: Job, model: Decoder, optimizer: torch.optim.Optimizer) -> None:
    """Write checkpoint/ beside its place and rename it."""
    tokenizer = job.input("tokenizer")
    vocabulary = json.loads((tokenizer / "tokenizer.json").read_text())["added_tokens"]
    end_of_text = next(token["id"] for token in vocabulary if token["content"] == "<|end_of_text|>")
    beside = job.folder / "checkpoint.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    save_model(model, beside, tokenizer, end_of_text)
    tensors = {name: tensor.contiguous() for name, tensor in optimizer_tensors(model, optimizer).items()}
    save_file(tensors, beside / "optimizer.safetensors")
    shutil.rmtree(job.folder / "checkpoint", ignore_errors=True)
    os.replace(beside, job.folder / "checkpoint")


def choose_device(asked: str) -> torch.device:
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(asked)


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
