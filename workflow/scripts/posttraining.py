"""Mid-training or SFT through TRL. Usage: [torchrun ...] posttraining.py JOB"""

from smolmake.execution.job import Job, run_step, stay_offline
from smolmake.graph.specs.posttrain import PostTrainingRun, SupervisedSpec

stay_offline()  # before a library reads the environment

import torch

from smolmake.posttrain.chat_data import read_conversations
from smolmake.posttrain.columns import CONVERSATIONS
from smolmake.posttrain.parallelism import divide
from smolmake.posttrain.trainers import conversation_trainer, train_step


def compute(job: Job[SupervisedSpec, PostTrainingRun]) -> None:
    torch.set_num_threads(job.run.threads)
    devices = divide(job.spec.training.global_batch_size, job.run)
    section = {"mid": "mid_training"}.get(job.name, job.name)
    data = read_conversations(job.spec.data, job.group("data"), job.spec.seed, section, CONVERSATIONS)
    parent = job.input("parent") / "checkpoint"
    trainer, tokenizer = conversation_trainer(job.spec, devices, job.folder, parent, data)
    train_step(job, trainer, tokenizer, devices, len(data))


if __name__ == "__main__":
    run_step(compute, SupervisedSpec, PostTrainingRun, __doc__ or "")
