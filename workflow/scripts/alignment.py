"""Preference optimisation with APO-zero through TRL. Usage: [torchrun ...] alignment.py JOB"""

from smolmake.execution.job import Job, run_step, stay_offline
from smolmake.graph.specs.data import PathDataset
from smolmake.graph.specs.posttrain import AlignmentSpec, ConversationsSpec, PostTrainingRun

stay_offline()  # before a library reads the environment

import torch

from smolmake.data.chat import ChatFormat
from smolmake.posttrain.chat_data import Preparation, pair_rows
from smolmake.posttrain.hf_trainer import load_chat_tokenizer
from smolmake.posttrain.parallelism import divide
from smolmake.posttrain.trainers import preference_trainer, train_step


def compute(job: Job[AlignmentSpec, PostTrainingRun]) -> None:
    torch.set_num_threads(job.run.threads)
    devices = divide(job.spec.training.global_batch_size, job.run)
    datasets = dict(job.spec.data)
    if "pairs" in job.inputs:
        made = PathDataset(path=str(job.input("pairs") / "pairs.parquet"), format="auto", content="")
        datasets["pairs"] = ConversationsSpec(files=made, on_error="skip")  # what a weak model writes can be anything
    parent = job.input("parent") / "checkpoint"
    how = Preparation(
        form=ChatFormat(load_chat_tokenizer(parent, None)),
        section="apo",
        template="of the SFT",
        seed=job.spec.seed,
        max_length=job.spec.training.max_length,
    )
    rows = pair_rows(datasets, job.group("data"), how, job.folder)
    trainer, tokenizer = preference_trainer(job.spec, devices, job.folder, parent, rows.data)
    train_step(job, trainer, tokenizer, devices, rows)


if __name__ == "__main__":
    run_step(compute, AlignmentSpec, PostTrainingRun, __doc__ or "")
