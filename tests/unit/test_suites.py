"""Suites run through the harness: scores with intervals, repeats averaged, and what cannot be run is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.tasks import TaskManager
from models import decoder, write_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from smolmake.data.toy.tables import write_table
from smolmake.data.toy.world import tasks as fact_tasks
from smolmake.errors import UserError
from smolmake.evaluate.statistics import mean_interval
from smolmake.evaluate.suites import run_suite
from smolmake.evaluate.tasks import prepare_tasks
from smolmake.model.checkpoint import save_model

SUITE: dict[str, Any] = {
    "tasks": ["facts"], "shots": None, "limit": 12, "chat": False, "system": "", "generation": {}, "repeats": 1,
    "lengths": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Any:
    """A function that runs a suite over the toy's facts with an untrained model."""
    folder = tmp_path_factory.mktemp("suite")
    rows = fact_tasks(0)
    write_table(folder / "facts.jsonl", rows)
    size = write_tokenizer(folder / "tokenizer", [str(row) for row in rows], 500)
    save_model(decoder(vocab_size=size, num_hidden_layers=2), folder / "model", folder / "tokenizer", 0)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    prepare_tasks([root / "config/tasks/toy/facts.yaml"], [folder / "facts.jsonl"], folder / "tasks", tokenizer, None)
    manager = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
    return lambda **changes: run_suite(model, tokenizer, folder / "model", {**SUITE, **changes}, manager)


def test_a_suite_gives_scores_with_intervals(scored: Any) -> None:
    scores = scored()
    accuracy = next(score for score in scores if score["metric"] == "acc")
    assert accuracy["task"] == "facts" and accuracy["n"] == 12 == len(accuracy["items"])
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["chance"] == pytest.approx(0.25) and accuracy["formulation"] == "CF"


def test_repeats_of_a_deterministic_task_change_nothing(scored: Any) -> None:
    assert scored(repeats=2) == scored()


def test_an_unknown_task_names_the_nearest(scored: Any) -> None:
    with pytest.raises(UserError) as caught:
        scored(tasks=["fact"])
    assert "facts" in caught.value.remedy


def test_the_interval_of_a_mean() -> None:
    assert mean_interval([0.0, 1.0, 1.0, 1.0])[0] == 0.75
    mean, low, high = mean_interval([0.25, 0.5, 0.75, 0.5])
    assert mean == 0.5 and low == pytest.approx(0.5 - 1.95996 * 0.2041241 / 2, abs=1e-5) and high == 1 - low
