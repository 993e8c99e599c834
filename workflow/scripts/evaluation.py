"""Measure one checkpoint: tasks, held-out loss, samples. Usage: evaluation.py JOB"""

import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from smolmake.evaluate.checkpoint import measured_checkpoint
from smolmake.evaluate.heldout import heldout_loss
from smolmake.evaluate.samples import write_samples
from smolmake.evaluate.tasks import score_tasks
from smolmake.execution.job import Job, run_step
from smolmake.files import write_json
from smolmake.graph.specs.evaluate import EvaluationSpec
from smolmake.graph.specs.runs import DeviceRun
from smolmake.model.device import on_gpu


def compute(job: Job[EvaluationSpec, DeviceRun]) -> None:
    device, threads = ("cuda", 4) if on_gpu(job.run.device) else ("cpu", 1)
    torch.set_num_threads(threads)
    checkpoint = measured_checkpoint(job)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    generated = job.input("data") if "data" in job.inputs else None
    spec, scores = job.spec, list[dict[str, Any]]()
    if spec.tasks is not None:
        scores = score_tasks(model, tokenizer, spec.tasks, spec.template, spec.limit, generated)
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
    job.finish(["scores.json", "samples.json"], {"tasks": len(scores)})


def score_heldout(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int
) -> list[dict[str, Any]]:
    """The loss on each source's held-out documents."""
    about = json.loads((folder / "sources.json").read_text())
    table = pq.read_table(folder / "heldout.parquet")
    found = []
    for source in sorted(about):
        texts = table.filter(pc.equal(table["source"], source))["text"].to_pylist()
        loss = heldout_loss(model, tokenizer, texts, length)
        found.append({"source": source, **about[source], **loss})
    return found


if __name__ == "__main__":
    run_step(compute, EvaluationSpec, DeviceRun, __doc__ or "")
