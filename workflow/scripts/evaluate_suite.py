"""Measure one checkpoint on a suite of the lm-evaluation-harness's own tasks. Usage: evaluate_suite.py JOB"""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from smolmake.evaluate.suites import run_suite
from smolmake.files import write_json
from smolmake.identity.manifest import payload_under, verify_payload
from smolmake.program import Job, run_step


def compute(job: Job) -> None:
    milestone = job.spec.get("milestone")
    place = "checkpoint" if milestone is None else f"milestones/step-{milestone}"
    checkpoint = job.input("checkpoint") / place
    if milestone is not None:  # it may be in remote storage alone
        verify_payload(job.inputs["checkpoint"], only=payload_under(job.inputs["checkpoint"], place))
    on_gpu = torch.cuda.is_available() and job.run["device"] != "cpu"
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16 if on_gpu else torch.float32).eval()
    model.to("cuda" if on_gpu else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    if job.spec["template"] is not None:
        tokenizer.chat_template = job.spec["template"]
    scores = run_suite(model, tokenizer, checkpoint, job.spec)
    name, _, suite = job.name.rpartition(".")
    write_json(job.folder / "scores.json", {"checkpoint": name, "suite": suite, "scores": scores})
    job.finish(["scores.json"], {"tasks": len(scores)})


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
