"""Measure one checkpoint: tasks, held-out loss, samples. Usage: evaluation.py JOB"""

import os
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from smolmake.evaluate.answers import ANSWERS, write_answers
from smolmake.evaluate.checkpoint import measured_checkpoint
from smolmake.evaluate.heldout import score_heldout
from smolmake.evaluate.samples import write_samples
from smolmake.evaluate.tasks import score_tasks
from smolmake.execution.job import Job, run_step
from smolmake.files import write_json
from smolmake.graph.specs.evaluate import EvaluationSpec
from smolmake.graph.specs.runs import DeviceRun
from smolmake.model.device import choose_device
from smolmake.model.logits import check_logits


def compute(job: Job[EvaluationSpec, DeviceRun]) -> None:
    device = choose_device(job.run.device, job.run.gpus_per_node)
    torch.set_num_threads(4 if device == "cuda" else 1)
    checkpoint = measured_checkpoint(job)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    apart = check_logits(model, tokenizer, checkpoint)
    generated = job.input("data") if "data" in job.inputs else None
    spec, scores, answers = job.spec, list[dict[str, Any]](), list[dict[str, Any]]()
    if spec.tasks is not None:
        scores = score_tasks(model, tokenizer, spec.tasks, spec.template, spec.limit, generated, answers)
    write_answers(job.folder / ANSWERS, answers)
    heldout = list[dict[str, Any]]()
    if "heldout" in job.inputs and spec.heldout_tokens is not None:
        heldout = score_heldout(job.input("heldout"), model, tokenizer, spec.heldout_tokens)
    samples = write_samples(model, tokenizer, spec.prompts, spec.chat_prompts, spec.template)
    tokens = job.facts("checkpoint").get("tokens_total")
    write_json(
        job.folder / "scores.json",
        {"checkpoint": job.name, "tokens": tokens, "scores": scores, "heldout": heldout},
    )
    write_json(job.folder / "samples.json", {"checkpoint": job.name, "samples": samples})
    job.finish(["scores.json", ANSWERS, "samples.json"], {"tasks": len(scores), "logits_apart": apart})


if __name__ == "__main__":
    run_step(compute, EvaluationSpec, DeviceRun, __doc__ or "")
