"""Preference pairs: a stronger and a weaker checkpoint answer the same prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import set_seed

from smolmake.data.hub import hub_rows
from smolmake.data.readers import MissingColumn, data_files, read_rows
from smolmake.errors import UserError
from smolmake.evaluate.prompts import render_prompt
from smolmake.evaluate.samples import generate
from smolmake.execution.job import Job
from smolmake.graph.specs.data import HubDataset
from smolmake.graph.specs.posttrain import PreferencesSpec
from smolmake.graph.specs.runs import DeviceRun
from smolmake.model.device import on_gpu
from smolmake.monitoring.progress import Progress
from smolmake.posttrain.columns import told_of_section
from smolmake.posttrain.hf_trainer import load_for_training

BATCH = 64


def make_pairs(job: Job[PreferencesSpec, DeviceRun]) -> None:
    torch.set_num_threads(job.run.threads)
    prompts = job.spec.prompts
    if isinstance(prompts, HubDataset):
        files, rows = [Path(prompts.hub)], list(hub_rows(prompts, "preferences.prompts"))
    else:
        files = data_files(prompts, job.input("prompts") if "prompts" in job.inputs else None)
        try:
            rows = [row for file in files for row in read_rows(file, prompts.format)]
        except UserError as error:
            raise told_of_section(error, "preferences.prompts") from None
    if not rows:
        raise UserError("no prompts", file=files[0], key="preferences.prompts", remedy="it needs rows with a `prompt`")
    for row in rows:
        if "prompt" not in row:
            raise told_of_section(MissingColumn("prompt", row, file=files[0]), "preferences.prompts")
    chosen, rejected = answers(job, "strong", rows), answers(job, "weak", rows)
    pairs = [
        {
            "prompt": row["prompt"],
            "chosen": conversation(row["prompt"], better),
            "rejected": conversation(row["prompt"], worse),
            "chat_template_kwargs": {"enable_thinking": thinks(row)},
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
    job.finish(["pairs.parquet"], {"prompts": len(rows), "pairs": len(pairs)})


def answers(job: Job[PreferencesSpec, DeviceRun], role: str, rows: list[dict[str, Any]]) -> list[str]:
    """One checkpoint's answers to all prompts, in their order."""
    model, tokenizer = load_for_training(job.input(role) / "checkpoint", None)
    model.eval().to("cuda" if on_gpu(job.run.device) else "cpu")
    set_seed(job.spec.seed)
    prompts = [
        render_prompt(
            tokenizer, job.spec.template, [{"role": "user", "content": row["prompt"]}], enable_thinking=thinks(row)
        )
        for row in rows
    ]
    progress = Progress(f"{role} checkpoint answers", len(prompts), "prompts")
    texts: list[str] = []
    for first in range(0, len(prompts), BATCH):
        part = prompts[first : first + BATCH]
        texts += generate(model, tokenizer, part, job.spec.max_new_tokens, job.spec.temperature)
        progress.add(len(part))
    return texts


def thinks(row: dict[str, Any]) -> bool:
    return bool((row.get("chat_template_kwargs") or {}).get("enable_thinking", True))


def conversation(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
