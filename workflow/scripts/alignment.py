"""Preference optimisation with APO-zero through TRL. Usage: [torchrun ...] alignment.py JOB"""

from smolmake.execution.job import Job, run_step, stay_offline
from smolmake.graph.specs.data import PathDataset
from smolmake.graph.specs.posttrain import AlignmentSpec, ConversationsSpec, PostTrainingRun

stay_offline()  # before a library reads the environment

import torch

from smolmake.posttrain.chat_data import read_conversations
from smolmake.posttrain.columns import PAIRS
from smolmake.posttrain.parallelism import divide
from smolmake.posttrain.trainers import preference_trainer, train_step


def compute(job: Job[AlignmentSpec, PostTrainingRun]) -> None:
    torch.set_num_threads(job.run.threads)
    devices = divide(job.spec.training.global_batch_size, job.run)
    datasets = dict(job.spec.data)
    if "pairs" in job.inputs:
        made = PathDataset(path=str(job.input("pairs") / "pairs.parquet"), format="auto", content="")
        datasets["pairs"] = ConversationsSpec(files=made)
    data = read_conversations(datasets, job.group("data"), job.spec.seed, "apo", PAIRS)
    parent = job.input("parent") / "checkpoint"
    trainer, tokenizer = preference_trainer(job.spec, devices, job.folder, parent, data)
    train_step(job, trainer, tokenizer, devices, len(data))


if __name__ == "__main__":
    run_step(compute, AlignmentSpec, PostTrainingRun, __doc__ or "")
