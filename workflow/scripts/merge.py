"""Merge checkpoints linearly. Usage: merge.py JOB"""

import os
import shutil

from smolmake.execution.job import Job, run_step
from smolmake.posttrain.merge import merge_linear


def compute(job: Job) -> None:
    models = {name: folder / "checkpoint" for name, folder in job.group("model").items()}
    beside = job.folder / "checkpoint.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    weights = ("model.safetensors", "optimizer.safetensors", "state.json")
    shutil.copytree(job.input("tokenizer") / "checkpoint", beside, ignore=shutil.ignore_patterns(*weights))
    merge_linear(models, job.spec["weights"], beside)
    shutil.rmtree(job.folder / "checkpoint", ignore_errors=True)
    os.replace(beside, job.folder / "checkpoint")
    job.finish(["checkpoint"], {"weights": job.spec["weights"]})


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
