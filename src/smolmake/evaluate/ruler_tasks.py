"""RULER's questions, made from a run's own text, as tasks of the harness; beyond the trained length with YaRN."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from smolmake.data.readers import data_listing
from smolmake.evaluate.harness import run_harness
from smolmake.evaluate.harness_model import HarnessModel
from smolmake.evaluate.harness_tasks import Tasks
from smolmake.evaluate.ruler import NEEDLES, ROOM, ruler_items
from smolmake.graph.specs.evaluate import RulerQuestions
from smolmake.recipe.evaluation import HarnessTasks

Row = dict[str, Any]
ITEMS = 50  # of a kind and length, where the suite has no `limit`
YARN = "_yarn"  # behind the name of what was asked beyond the trained length
UNPRINTABLE = re.compile(r"[\x00-\x1f]")


def score_ruler(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: RulerQuestions,
    asked: HarnessTasks,
    heldout: Path | None,
    answers: list[Row] | None = None,
    first: int = 0,
) -> list[Row]:
    """Scores of all kinds and lengths; `heldout` is the folder of held-out documents, `answers` and `first` as
    for `run_harness`. Lengths beyond the trained one are asked of a copy with YaRN where the suite says so."""
    trained = int(model.config.max_position_embeddings)
    beyond = [length for length in asked.lengths if questions.yarn and length > trained]
    words = ruler_words(questions, heldout)
    within = [length for length in asked.lengths if length not in beyond]
    rows = _score(model, tokenizer, questions, asked, within, words, "", answers, first) if within else []
    for length in sorted(beyond):
        scaled = with_yarn(model, length)
        found = _score(scaled, tokenizer, questions, asked, [length], words, YARN, answers, first)
        rows += [row | {"yarn": length / trained} for row in found]
    return rows


def ruler_words(questions: RulerQuestions, heldout: Path | None) -> list[str]:
    """The words of the haystack: a text that the suite names, else the held-out documents."""
    if questions.text is not None:
        texts = [path.read_text(encoding="utf-8") for path in data_listing(questions.text, None).files]
    else:
        assert heldout is not None
        texts = pq.read_table(heldout / "heldout.parquet", columns=["text"])["text"].to_pylist()
    return " ".join(texts).split()


def with_yarn(model: PreTrainedModel, length: int) -> PreTrainedModel:
    """A copy of a model that reads `length` tokens, with the rotary angles of YaRN (Peng et al. 2023)."""
    config = copy.deepcopy(model.config)
    trained = int(config.max_position_embeddings)
    config.rope_parameters = {
        **config.rope_parameters,
        "rope_type": "yarn",
        "factor": length / trained,
        "original_max_position_embeddings": trained,
    }
    config.max_position_embeddings = length
    scaled = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    scaled.load_state_dict(model.state_dict())
    copied: PreTrainedModel = scaled.to(model.device).eval()
    return copied


def recall(row: Row, answers: list[str]) -> dict[str, float]:
    """The share of right answers that a written one holds, under its length; the harness wants all lengths."""
    said = UNPRINTABLE.sub("\n", answers[0]).lower()
    share = sum(answer.lower() in said for answer in row["outputs"]) / len(row["outputs"])
    return {str(length): share if length == row["max_length"] else -1.0 for length in row["lengths"]}


def mean_asked(values: list[float]) -> float:
    """The mean over the items of a length."""
    asked = [value for value in values if value >= 0]
    return sum(asked) / len(asked)


def _score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: RulerQuestions,
    asked: HarnessTasks,
    lengths: list[int],
    words: list[str],
    suffix: str,
    answers: list[Row] | None,
    first: int,
) -> list[Row]:
    reader = HarnessModel(model, tokenizer)

    def count(text: str) -> int:
        """The tokens of a prompt as it is asked, in a chat with its template."""
        if not asked.chat:
            return len(tokenizer(text)["input_ids"])
        turns = [{"role": "system", "content": asked.system}] if asked.system else []
        shown = reader.apply_chat_template([*turns, {"role": "user", "content": text}])
        return len(tokenizer(shown, add_special_tokens=False)["input_ids"])

    number, depths = asked.limit or ITEMS, dict[tuple[str, int], list[float]]()
    with tempfile.TemporaryDirectory(prefix="smolmake-ruler-") as scratch:
        datasets.config.HF_DATASETS_CACHE = Path(scratch) / "cache"
        folder = Path(scratch) / "tasks"
        folder.mkdir()
        for kind in questions.kinds:
            with (folder / f"{kind}.jsonl").open("w", encoding="utf-8") as file:
                for length in lengths:
                    for item in ruler_items(kind, length, number, words, count):
                        row = {"query": item.prompt, "prefix": item.prefix, "outputs": item.answers}
                        file.write(json.dumps(row | {"max_length": length, "lengths": lengths}) + "\n")
                        if kind in NEEDLES and item.depth is not None:
                            depths.setdefault((kind + suffix, length), []).append(item.depth)
            task = json.dumps(_task(kind + suffix, folder / f"{kind}.jsonl", ROOM[kind], lengths))
            for function in (recall, mean_asked):  # the harness's own tag for a function
                task = task.replace(f'"{function.__name__}"', f"!function {__name__}.{function.__name__}")
            (folder / f"{kind}.yaml").write_text(task)
        tasks = Tasks(include_path=str(folder), include_defaults=False)
        names = [kind + suffix for kind in questions.kinds]
        changed = asked.model_copy(update={"tasks": names, "lengths": lengths, "limit": None, "shots": None})
        rows = run_harness(model, tokenizer, changed, tasks, answers, first)
    return [row | {"depths": depths.get((row["task"], row["length"]), [])} for row in rows]


def _task(name: str, data: Path, room: int, lengths: list[int]) -> Row:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{query}}",
        "doc_to_target": "{{outputs}}",
        "gen_prefix": "{{prefix}}",
        "target_delimiter": " ",
        "process_results": "recall",
        "generation_kwargs": {"do_sample": False, "max_gen_toks": room, "until": []},
        "metric_list": [
            {"metric": str(length), "aggregation": "mean_asked", "higher_is_better": True} for length in lengths
        ],
        "metadata": {"version": 1},
    }
