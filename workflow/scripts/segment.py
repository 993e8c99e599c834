"""Train one segment of pretraining or of a long-context extension. Usage: [torchrun ...] segment.py JOB"""

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from smolmake.data.loader import BatchReader, open_mixture, open_mixture_shards
from smolmake.execution.job import Job, run_step
from smolmake.execution.node_cache import scratch_folder
from smolmake.model.config import ModelConfig
from smolmake.model.conversion import load_model, save_tensors
from smolmake.model.counts import count_parameters
from smolmake.model.decoder import Decoder
from smolmake.model.init import initialise
from smolmake.train.optimizer import Optimizers, load_optimizer, make_optimizer, optimizer_tensors
from smolmake.train.parallel import Group, check_layout, join_group, leave_group, whole
from smolmake.train.spikes import dropped_facts
from smolmake.train.trainer import Trainer


def compute(job: Job) -> None:
    torch.set_num_threads(job.run["threads"])
    # Before the group is joined: copying shards to the node's disk takes longer than processes of a group may wait.
    mixture, description = open_mixture(job.input("mixture"))
    shards = open_mixture_shards(description, job.folder.parents[1], scratch_folder(job.run["scratch"]))
    group = join_group(job.run["device"], job.run["layout"])
    model = first_model(job)
    check_layout(group, job.spec, model.config)
    model.to(group.device)
    model.recompute(group.layout.get("activation_checkpointing", "none"))
    if job.run["compile"] == "on" or (job.run["compile"] == "auto" and group.device.type == "cuda"):
        model.compile_blocks()
    spec = job.spec
    reader = BatchReader(mixture, shards, spec["global_batch"], spec["stage_start"], spec.get("batches"))
    trainer = Trainer(model, None, reader, spec, job.run, job.folder, group, f"training {job.name}")  # type: ignore[arg-type]
    # Made after the trainer has shared the model: the optimizer's state is cut as the weights are.
    trainer.optimizer = make_optimizer(model, spec["optimizer"])
    if not spec["fresh_optimizer"]:
        tensors = load_file(job.input("parent") / "checkpoint" / "optimizer.safetensors")
        load_optimizer(model, trainer.optimizer, tensors)
    trainer.milestone = lambda step: save_weights(job, model, group, job.folder / "milestones" / f"step-{step}")
    trainer.train()
    save_checkpoint(job, model, trainer.optimizer, group)
    if group.first:
        finish(job, model, trainer)
    leave_group(group)


def finish(job: Job, model: Decoder, trainer: Trainer) -> None:
    tokens = trainer._tokens(job.spec["end"])
    before = job.facts("parent")["tokens_total"] if "parent" in job.inputs else 0
    facts = {
        "tokens": tokens,
        "tokens_total": before + tokens,
        "parameters": count_parameters(model.config.shape).total,
        "step": job.spec["end"],
        **dropped_facts(trainer.spikes, trainer.reader),
    }
    elsewhere = trainer.uploads.removed(job.run["milestones"])
    milestones = ["milestones"] if (job.folder / "milestones").is_dir() and job.run["milestones"] else []
    job.finish(["checkpoint", *milestones], facts, elsewhere)
    trainer.uploads.finish(job.run["milestones"])
    shutil.rmtree(job.folder / "recovery", ignore_errors=True)


def first_model(job: Job) -> Decoder:
    """The parent's model with this segment's theta and length, or a new one."""
    theta, length, precision = job.spec["rope_theta"], job.spec["sequence_length"], job.spec["precision"]
    if "parent" in job.inputs:
        return load_model(
            job.input("parent") / "checkpoint", rope_theta=theta, max_positions=length, precision=precision
        )
    vocabulary, shape = job.facts("tokenizer")["vocab_size"], dict(job.spec["model"])
    scaled = shape.pop("scale_output_projections")
    model = Decoder(
        ModelConfig(**shape, vocab_size=vocabulary, rope_theta=theta, max_position_embeddings=length), precision
    )
    initialise(model, job.spec["seed"], scaled)
    return model


def save_checkpoint(job: Job, model: Decoder, optimizer: Optimizers, group: Group) -> None:
    """Write checkpoint/: the model, and the optimizer's state for the segments that follow."""
    # Tensor by tensor, so that a model whose state fits no single device can be saved.
    tensors = {}
    for name, tensor in optimizer_tensors(model, optimizer).items():
        together = whole(tensor)
        if group.first:
            tensors[name] = together.cpu().contiguous()
    save_weights(job, model, group, job.folder / "checkpoint", tensors)


def save_weights(
    job: Job, model: Decoder, group: Group, place: Path, state: dict[str, torch.Tensor] | None = None
) -> None:
    """Write a model folder beside its place and rename it. All processes call it; the first one writes."""
    weights = {}
    for name, tensor in model.state_dict().items():
        together = whole(tensor)
        if group.first:
            weights[name] = together.cpu()
    if group.first:
        tokenizer = job.input("tokenizer")
        vocabulary = json.loads((tokenizer / "tokenizer.json").read_text())["added_tokens"]
        end_of_text = next(token["id"] for token in vocabulary if token["content"] == "<|end_of_text|>")
        beside = place.with_name(place.name + ".tmp")
        shutil.rmtree(beside, ignore_errors=True)
        save_tensors(model.config, weights, beside, tokenizer, end_of_text)
        if state is not None:
            save_file(state, beside / "optimizer.safetensors")
        shutil.rmtree(place, ignore_errors=True)
        os.replace(beside, place)
    group.wait()


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
