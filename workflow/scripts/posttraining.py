"""Mid-training or SFT through TRL. Usage: [torchrun ...] posttraining.py JOB"""

from smolmake.execution.job import Job, run_step, stay_offline
from smolmake.graph.specs.posttrain import PostTrainingRun, SupervisedSpec

stay_offline()  # before a library reads the environment

import torch

from smolmake.data.chat import ChatFormat
from smolmake.posttrain.chat_data import Preparation, conversation_rows
from smolmake.posttrain.hf_trainer import load_chat_tokenizer
from smolmake.posttrain.parallelism import divide
from smolmake.posttrain.trainers import conversation_trainer, train_step


def compute(job: Job[SupervisedSpec, PostTrainingRun]) -> None:
    torch.set_num_threads(job.run.threads)
    devices = divide(job.spec.training.global_batch_size, job.run)
    section = {"mid": "mid_training"}.get(job.name, job.name)
    parent = job.input("parent") / "checkpoint"
    how = Preparation(
        form=ChatFormat(load_chat_tokenizer(parent, job.spec.template)),
        section=section,
        template=str(job.recipe_values.get(f"{section}.chat_template", "of this step")),
        seed=job.spec.seed,
        max_length=job.spec.training.max_length,
        cuts=job.spec.packing != "wrapped",
        learn_all=job.spec.loss == "all",
    )
    rows = conversation_rows(job.spec.data, job.group("data"), how, job.folder)
    trainer, tokenizer = conversation_trainer(job.spec, devices, job.folder, parent, rows.data)
    train_step(job, trainer, tokenizer, devices, rows)


if __name__ == "__main__":
    run_step(compute, SupervisedSpec, PostTrainingRun, __doc__ or "")
