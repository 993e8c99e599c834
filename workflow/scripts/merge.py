"""Merge checkpoints linearly. Usage: merge.py JOB"""

import shutil

from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.files import new_folder
from smolmake.graph.specs.posttrain import MergeSpec
from smolmake.posttrain.merge import merge_linear


def compute(job: Job[MergeSpec, Run]) -> None:
    models = {name: folder / "checkpoint" for name, folder in job.group("model").items()}
    others = shutil.ignore_patterns("model.safetensors", "optimizer.safetensors", "logits.safetensors", "state.json")
    with new_folder(job.folder / "checkpoint") as beside:
        shutil.copytree(job.input("tokenizer") / "checkpoint", beside, ignore=others, dirs_exist_ok=True)
        merge_linear(models, job.spec.weights, beside)
    job.finish(["checkpoint"], {"weights": job.spec.weights})


if __name__ == "__main__":
    run_step(compute, MergeSpec, Run, __doc__ or "")
