"""A user's questions as tasks of the harness: one description, asked in each of its formulations."""

from __future__ import annotations

import json
import re
import string
import tempfile
from pathlib import Path
from typing import Any

import datasets
import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from smolmake.evaluate.harness import run_harness
from smolmake.evaluate.harness_tasks import Tasks
from smolmake.evaluate.items import question_files
from smolmake.evaluate.questions import read_questions, ways
from smolmake.graph.specs.evaluate import QuestionFiles
from smolmake.recipe.evaluation import Formulation, HarnessTasks

ANSWER_TOKENS = 64
METRICS = {
    "cf": ("acc", "acc_norm", "acc_bytes", "acc_mutual_info"),
    "hybrid": ("acc", "acc_norm", "acc_bytes", "acc_mutual_info"),
    "mcf": ("acc",),  # letters are equally long
    "fg": ("exact_match",),
}
ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    files: QuestionFiles,
    asked: HarnessTasks,
    generated: Path | None,
    answers: list[dict[str, Any]] | None = None,
    first: int = 0,
) -> list[dict[str, Any]]:
    """Scores of all files in all their formulations; `generated` is the folder of the step that generated them, and
    `answers` and `first` as for `run_harness`.
    """
    with tempfile.TemporaryDirectory(prefix="smolmake-questions-") as scratch:
        datasets.config.HF_DATASETS_CACHE = Path(scratch) / "cache"
        sets = write_question_tasks(files, Path(scratch) / "tasks", asked.chat, generated)
        tasks = Tasks(include_path=str(Path(scratch) / "tasks"), include_defaults=False)
        rows = run_harness(model, tokenizer, asked.model_copy(update={"tasks": sorted(sets)}), tasks, answers, first)
        return [row | {"questions": [sets[row["task"]]]} for row in rows]


def write_question_tasks(files: QuestionFiles, folder: Path, chat: bool, generated: Path | None) -> dict[str, str]:
    """Write task files and their rows into `folder`; returns the names of the tasks with those of their questions."""
    folder.mkdir(parents=True)
    sets = {}
    for name, path in question_files(files.data, generated).items():
        questions = read_questions(path)
        for how in ways(path, questions, files.ask):
            task = f"{name}_{how}"
            rows = [question.asked(how, files.prompt) for question in questions]
            data = folder / f"{task}.jsonl"
            data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
            written = yaml.safe_dump(_task(task, how, data, files.delimiter, chat), sort_keys=False)
            if how == "fg":  # the harness's own tag for a function
                written += f"process_results: !function {__name__}.exact_match\n"
            (folder / f"{task}.yaml").write_text(written)
            sets[task] = name
    return sets


def exact_match(row: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """Whether a written answer is one of the right ones, as SQuAD compares them (Rajpurkar et al. 2016)."""
    return {"exact_match": float(normalised(answers[0]) in map(normalised, row["answers"]))}


def normalised(text: str) -> str:
    """In lower case, without punctuation, English articles and more than one space."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


def _task(name: str, how: Formulation, data: Path, delimiter: str, chat: bool) -> dict[str, Any]:
    task: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "query",
        "target_delimiter": delimiter,
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in METRICS[how]],
        "metadata": {"version": 1},
    }
    if how == "fg":
        stops = [] if chat else ["\n"]  # a turn ends by itself
        generation = {"do_sample": False, "max_gen_toks": ANSWER_TOKENS, "until": stops}
        return task | {"output_type": "generate_until", "doc_to_target": "answers", "generation_kwargs": generation}
    return task | {"output_type": "multiple_choice", "doc_to_target": "gold", "doc_to_choice": "options"}
