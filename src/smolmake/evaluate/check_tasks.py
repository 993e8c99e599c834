"""Every task of a recipe, answered by a tiny new model: a task that cannot run is found before training."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, SmolLM3Config

from smolmake.evaluate.harness import run_suite
from smolmake.evaluate.question_tasks import score_questions
from smolmake.evaluate.ruler_tasks import score_ruler
from smolmake.evaluate.tasks import score_tasks
from smolmake.execution.job import Job
from smolmake.files import write_json
from smolmake.graph.specs.evaluate import CheckTasksSpec
from smolmake.graph.specs.runs import DeviceRun
from smolmake.recipe.evaluation import HarnessTasks

ITEMS, NEW_TOKENS, LENGTHS = 2, 8, 1  # of each task; of each answer; of a suite's context lengths


def check_tasks(job: Job[CheckTasksSpec, DeviceRun]) -> None:
    torch.set_num_threads(job.run.threads)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tokenizer = AutoTokenizer.from_pretrained(job.input("tokenizer"))
        config = SmolLM3Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, pad_token_id=0,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config).eval()
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        found = {}
        if job.spec.tasks is not None:
            generated = job.input("data") if "data" in job.inputs else None
            found["tasks"] = score_tasks(model, tokenizer, job.spec.tasks, job.spec.template, ITEMS, generated)
        for name, suite in job.spec.suites.items():
            if suite.template is not None:
                tokenizer.chat_template = suite.template
            print(f"suite {name}", file=sys.stderr, flush=True)
            if suite.questions is not None:
                generated = job.input(f"data:{name}") if f"data:{name}" in job.inputs else None
                found[name] = score_questions(model, tokenizer, suite.questions, reduced(suite.harness), generated)
            elif suite.ruler is not None:
                heldout = job.input(f"heldout:{name}") if f"heldout:{name}" in job.inputs else None
                found[name] = score_ruler(model, tokenizer, suite.ruler, reduced(suite.harness), heldout)
            else:
                found[name] = run_suite(model, tokenizer, place, reduced(suite.harness))
    counts = {name: len({score["task"] for score in scores}) for name, scores in found.items()}
    write_json(job.folder / "answered.json", counts)
    job.finish(["answered.json"], {"tasks": sum(counts.values())})


def reduced(asked: HarnessTasks) -> HarnessTasks:
    """The same tasks with few items and short answers."""
    generation = {**asked.generation, "max_gen_toks": NEW_TOKENS}
    few = {"limit": ITEMS, "generation": generation, "repeats": 1, "lengths": sorted(asked.lengths)[:LENGTHS]}
    return asked.model_copy(update=few)
