"""Preference optimisation with APO-zero through TRL. Usage: align_preferences.py JOB"""

import shutil

from smolmake.program import Job, run_step, stay_offline

stay_offline()  # before a library reads the environment

import torch
from trl import DPOConfig, DPOTrainer

from smolmake.posttrain.conversations import read_pairs
from smolmake.posttrain.training import common_settings, load_for_training, train_and_save


def compute(job: Job) -> None:
    torch.set_num_threads(job.run["threads_posttraining"])
    places = dict(job.spec["data"])
    if "pairs" in job.inputs:
        places["pairs"] = {"path": str(job.input("pairs") / "pairs.parquet"), "format": "auto"}
    data = read_pairs(places, job.group("data"), job.spec["seed"])
    checkpoint = job.input("parent") / "checkpoint"
    model, tokenizer = load_for_training(checkpoint, None)
    reference, _ = load_for_training(checkpoint, None)
    settings = DPOConfig(
        loss_type=["apo_zero"],
        beta=job.spec["beta"],
        **common_settings(job.spec, job.run, job.folder, len(data)),
    )
    trainer = DPOTrainer(
        model=model, ref_model=reference, args=settings, train_dataset=data, processing_class=tokenizer
    )
    facts = train_and_save(trainer, model, tokenizer, job.folder)
    job.finish(["checkpoint"], {**facts, "rows": len(data)})
    shutil.rmtree(job.folder / "recovery", ignore_errors=True)


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
