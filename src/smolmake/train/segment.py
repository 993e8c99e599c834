"""One segment from its job to its artefact: build, resume, train, save, finish."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from smolmake.data.loader import BatchReader, open_mixture, open_mixture_shards
from smolmake.execution.job import Job
from smolmake.execution.node_cache import scratch_folder
from smolmake.files import new_folder
from smolmake.graph.specs.pretrain import SegmentRun, SegmentSpec
from smolmake.model.config import ModelConfig
from smolmake.model.conversion import load_model, save_tensors
from smolmake.model.counts import count_parameters
from smolmake.model.decoder import Decoder
from smolmake.model.init import initialise
from smolmake.train.optimizer import load_optimizer, make_optimizer, optimizer_tensors
from smolmake.train.parallel import (
    ParallelContext,
    check_layout,
    destroy_parallel,
    full_tensor,
    init_parallel,
    parallelize,
)
from smolmake.train.spikes import dropped_facts
from smolmake.train.trained_logits import save_logits
from smolmake.train.trainer import Batches, Trainer

OPTIMIZER = "optimizer.safetensors"
SegmentJob = Job[SegmentSpec, SegmentRun]


def train_segment(job: SegmentJob) -> None:
    """Train a segment on all its processes, from where it stopped if it was begun, and write its artefact."""
    spec, run = job.spec, job.run
    torch.set_num_threads(run.threads)
    # Before the processes join: copying shards to the node's disk takes longer than they may wait for each other.
    reader = open_reader(job)
    parallel = init_parallel(run.device, run.layout)
    model = first_model(job)
    state = None if spec.fresh_optimizer else job.input("parent") / "checkpoint" / OPTIMIZER
    trainer = build_trainer(
        model, reader, spec, run, parallel, job.folder, f"training {job.name}", state,
        lambda step: save_weights(job, model, parallel, job.folder / "milestones" / f"step-{step}"),
    )  # fmt: skip
    trainer.train()
    save_checkpoint(job, trainer)
    if parallel.is_main:
        finish(job, trainer, reader)
    destroy_parallel(parallel)


def open_reader(job: SegmentJob) -> BatchReader:
    """The batches of the segment's mixture."""
    mixture, description = open_mixture(job.input("mixture"))
    shards = open_mixture_shards(description, job.folder.parents[1], scratch_folder(job.run.scratch))
    spec = job.spec
    return BatchReader(mixture, shards, spec.global_batch_size, spec.stage_start, spec.batches)


def first_model(job: SegmentJob) -> Decoder:
    """The parent's model with this segment's theta and length, or a new one."""
    spec = job.spec
    if spec.model is None:
        folder = job.input("parent") / "checkpoint"
        return load_model(folder, spec.rope_theta, spec.sequence_length, spec.precision)
    assert spec.seed is not None
    config = ModelConfig.of(
        spec.model, vocab_size=job.facts("tokenizer")["vocab_size"], rope_theta=spec.rope_theta,
        max_position_embeddings=spec.sequence_length,
    )  # fmt: skip
    return new_model(config, spec)


def new_model(config: ModelConfig, spec: SegmentSpec) -> Decoder:
    """A model with the initial values of the spec's seed."""
    model = Decoder(config, spec.precision)
    initialise(model, spec.seed or 0)
    return model


def build_trainer(
    model: Decoder,
    reader: Batches,
    spec: SegmentSpec,
    run: SegmentRun,
    parallel: ParallelContext,
    folder: Path,
    label: str,
    optimizer_state: Path | None = None,
    milestone: Callable[[int], None] = lambda step: None,
) -> Trainer:
    """A trainer of a model: on its device, compiled, spread over the processes, with its optimizer.

    Raises:
        UserError: if the model, its optimizer or its batch cannot be spread over the processes.
    """
    check_layout(parallel, spec, model.config)
    model.to(parallel.device)
    model.set_activation_checkpointing(parallel.layout.activation_checkpointing)
    if run.compile == "on" or (run.compile == "auto" and parallel.device.type == "cuda"):
        model.compile_blocks()
    parallel_model = parallelize(model, parallel)
    optimizer = make_optimizer(model, spec.optimizer)  # now: its state is cut as the weights are
    if optimizer_state is not None:
        load_optimizer(model, optimizer, load_file(optimizer_state))
    return Trainer(parallel_model, optimizer, reader, spec, run, folder, label, milestone)


def finish(job: SegmentJob, trainer: Trainer, reader: BatchReader) -> None:
    """Write the manifest; then recovery checkpoints are no longer needed."""
    spec, milestones = trainer.spec, trainer.run.milestones
    tokens = spec.tokens_until(spec.end)
    before = job.facts("parent")["tokens_total"] if "parent" in job.inputs else 0
    facts = {
        "tokens": tokens,
        "tokens_total": before + tokens,
        "parameters": count_parameters(trainer.model.config.shape).total,
        "step": spec.end,
        **dropped_facts(trainer.spikes, reader),
    }
    elsewhere = trainer.uploads.removed(milestones)
    kept = ["milestones"] if (job.folder / "milestones").is_dir() and milestones else []
    job.finish(["checkpoint", *kept], facts, elsewhere)
    trainer.uploads.finish(milestones)
    shutil.rmtree(job.folder / "recovery", ignore_errors=True)


def save_checkpoint(job: SegmentJob, trainer: Trainer) -> None:
    """Write checkpoint/: the model, and the optimizer's state for the segments that follow."""
    model, parallel = trainer.model, trainer.parallel
    state = gather_full(optimizer_tensors(model, trainer.optimizer), parallel)
    save_weights(job, model, parallel, job.folder / "checkpoint", lambda folder: save_file(state, folder / OPTIMIZER))


def save_weights(
    job: SegmentJob,
    model: Decoder,
    parallel: ParallelContext,
    folder: Path,
    more: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a model's folder, with what `more` writes into it. All processes call it."""
    weights = gather_full(model.state_dict(), parallel)
    if parallel.is_main:
        tokenizer = job.input("tokenizer")
        vocabulary = json.loads((tokenizer / "tokenizer.json").read_text())["added_tokens"]
        end_of_text = next(token["id"] for token in vocabulary if token["content"] == "<|end_of_text|>")
        with new_folder(folder) as beside:
            save_tensors(model.config, weights, beside, tokenizer, end_of_text)
            save_logits(model.config, weights, tokenizer, beside)
            more(beside)
    parallel.barrier()


def gather_full(tensors: dict[str, Tensor], parallel: ParallelContext) -> dict[str, Tensor]:
    """Full tensors on the main process's CPU, one after the other, so that no device must hold them all."""
    gathered = {}
    for name, tensor in tensors.items():
        full = full_tensor(tensor)
        if parallel.is_main:
            gathered[name] = full.cpu().contiguous()
    return gathered
