"""Preference pairs: a stronger and a weaker checkpoint answer the same prompts."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import set_seed

from smolmake.data.chat import ChatFormat
from smolmake.errors import UserError
from smolmake.evaluate.samples import generate
from smolmake.execution.job import Job
from smolmake.graph.specs.posttrain import PreferencesSpec
from smolmake.graph.specs.runs import DeviceRun
from smolmake.model.device import choose_device
from smolmake.monitoring.progress import Progress
from smolmake.posttrain.hf_trainer import load_for_training
from smolmake.posttrain.rows import to_prompt
from smolmake.posttrain.source_rows import source_rows

BATCH = 64


def make_pairs(job: Job[PreferencesSpec, DeviceRun]) -> None:
    torch.set_num_threads(job.run.threads)
    key, generated = "preferences.prompts", job.input("prompts") if "prompts" in job.inputs else None
    read = list(source_rows(key, job.spec.prompts, generated, to_prompt, job.spec.on_error))
    rows = [row.made for row in read if row.made is not None]
    if not rows:
        raise UserError("no prompts", key=key, remedy="it needs rows with a `prompt`")
    chosen, rejected = answers(job, "strong", rows), answers(job, "weak", rows)
    pairs = [
        {
            "prompt": row["prompt"],
            "chosen": conversation(row["prompt"], better),
            "rejected": conversation(row["prompt"], worse),
            "chat_template_kwargs": json.dumps(row["chat_template_kwargs"], ensure_ascii=False),
        }
        for row, better, worse in zip(rows, chosen, rejected, strict=True)
        if better.strip() and better != worse
    ]
    if not pairs:
        raise UserError(
            "no prompt gave two different answers",
            key="preferences.weak",
            remedy="give more prompts, or a weaker checkpoint for `weak`",
        )
    pq.write_table(pa.Table.from_pylist(pairs), job.folder / "pairs.parquet")
    skipped = {"skipped": len(read) - len(rows)} if len(read) > len(rows) else {}
    job.finish(["pairs.parquet"], {"prompts": len(rows), "pairs": len(pairs)} | skipped)


def answers(job: Job[PreferencesSpec, DeviceRun], role: str, rows: list[dict[str, Any]]) -> list[str]:
    """One checkpoint's answers to all prompts, in their order."""
    model, tokenizer = load_for_training(job.input(role) / "checkpoint", None)
    model.eval().to(choose_device(job.run.device, job.run.gpus_per_node))
    set_seed(job.spec.seed)
    chat = ChatFormat(tokenizer, job.spec.template)
    prompts = [
        chat.encode([{"role": "user", "content": row["prompt"]}], prompt=True, **row["chat_template_kwargs"]).ids
        for row in rows
    ]
    progress = Progress(f"{role} checkpoint answers", len(prompts), "prompts")
    texts: list[str] = []
    for first in range(0, len(prompts), BATCH):
        part = prompts[first : first + BATCH]
        texts += generate(model, tokenizer, part, job.spec.max_new_tokens, job.spec.temperature)
        progress.add(len(part))
    return texts


def conversation(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
