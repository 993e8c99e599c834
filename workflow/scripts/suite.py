"""Measure one checkpoint on a suite of the lm-evaluation-harness's own tasks. Usage: suite.py JOB"""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from smolmake.evaluate.answers import ANSWERS, write_answers
from smolmake.evaluate.checkpoint import measured_checkpoint
from smolmake.evaluate.harness import run_suite
from smolmake.evaluate.question_tasks import score_questions
from smolmake.evaluate.ruler_tasks import score_ruler
from smolmake.execution.job import Job, run_step
from smolmake.files import write_json
from smolmake.graph.specs.evaluate import SuiteRun, SuiteSpec
from smolmake.model.device import choose_device
from smolmake.model.logits import check_logits


def compute(job: Job[SuiteSpec, SuiteRun]) -> None:
    checkpoint = measured_checkpoint(job)
    device = choose_device(job.run.device, job.run.gpus_per_node)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    apart = check_logits(model, tokenizer, checkpoint)
    if job.spec.template is not None:
        tokenizer.chat_template = job.spec.template
    answers, first = list[dict[str, Any]](), job.spec.first or 0
    if job.spec.questions is not None:
        generated = job.input("data") if "data" in job.inputs else None
        scores = score_questions(model, tokenizer, job.spec.questions, job.spec.harness, generated, answers, first)
    elif job.spec.ruler is not None:
        heldout = job.input("heldout") if "heldout" in job.inputs else None
        scores = score_ruler(model, tokenizer, job.spec.ruler, job.spec.harness, heldout, answers, first)
    else:
        scores = run_suite(model, tokenizer, checkpoint, job.spec.harness, answers, first)
    write_answers(job.folder / ANSWERS, answers)
    name = job.name.removesuffix(f".{job.run.suite}{job.spec.name_of_part}")
    write_json(job.folder / "scores.json", {"checkpoint": name, "suite": job.run.suite, "scores": scores})
    job.finish(["scores.json", ANSWERS], {"tasks": len(scores), "logits_apart": apart})


if __name__ == "__main__":
    run_step(compute, SuiteSpec, SuiteRun, __doc__ or "")
