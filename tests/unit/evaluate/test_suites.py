"""Suites run through the harness: scores with intervals, repeats averaged, and what cannot be run is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import torch
from helpers.data_jobs import fail, job, run
from helpers.models import decoder, save_model, write_tokenizer
from helpers.training import finish
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex
from transformers import AutoModelForCausalLM, AutoTokenizer

from generators.chats import chat_tasks
from generators.tables import write_table
from generators.world import tasks as fact_tasks
from smolmake.errors import UserError
from smolmake.evaluate.harness import run_harness
from smolmake.evaluate.harness_tasks import Tasks, suite_items
from smolmake.evaluate.items import ITEMS, read_items, write_items
from smolmake.evaluate.tasks import prepare_tasks
from smolmake.execution.job import Job, named
from smolmake.execution.manifest import read_manifest
from smolmake.execution.step import Run, Spec
from smolmake.graph.specs.data import PathDataset, SuiteItemsSpec
from smolmake.graph.specs.evaluate import CheckTasksSpec, EvaluationSpec, QuestionFiles, SuiteSpec, TaskFiles
from smolmake.recipe.evaluation import HarnessTasks
from smolmake.train.trained_logits import save_logits

SUITE: dict[str, Any] = {
    "tasks": ["facts"], "shots": None, "limit": 12, "chat": False, "system": "", "generation": {}, "repeats": 1,
    "lengths": [],
}  # fmt: skip


def prepare(folder: Path, root: Path) -> Tasks:
    """The harness with the toy's task of facts, whose data lies in `folder`, and a group that holds it."""
    files = [root / "examples/toy/tasks/facts.yaml"]
    prepare_tasks(files, {"facts": folder / "facts.jsonl"}, folder / "tasks", None, None)
    (folder / "tasks" / "group.yaml").write_text("{group: knowledge, task: [facts], metadata: {}}\n")
    return Tasks(include_path=str(folder / "tasks"), include_defaults=False)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Any:
    """A function that runs a suite over the toy's facts with an untrained model."""
    folder = tmp_path_factory.mktemp("suite")
    rows = fact_tasks(0)
    write_table(folder / "facts.jsonl", rows)
    size = write_tokenizer(folder / "tokenizer", [str(row) for row in rows], 500)
    save_model(decoder(vocab_size=size, num_hidden_layers=2), folder / "model", folder / "tokenizer", 0)
    manager = prepare(folder, root)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return lambda **changes: run_harness(model, tokenizer, HarnessTasks(**{**SUITE, **changes}), manager)


def test_a_suite_gives_scores_with_intervals(scored: Any) -> None:
    scores = scored()
    accuracy = next(score for score in scores if score["metric"] == "acc")
    assert accuracy["task"] == "facts" and accuracy["n"] == 12 == len(accuracy["items"])
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["chance"] == pytest.approx(0.25) and accuracy["formulation"] == "CF"


def test_repeats_of_a_deterministic_task_change_nothing(scored: Any) -> None:
    twice, once = scored(repeats=2, shots=2), scored(shots=2)
    assert {row.pop("repeats") for row in twice} == {2} and {row.pop("repeats") for row in once} == {1}
    for row in twice:  # each item's answers, one after the other
        first, second = row.pop("samples", []) or ([], [])
        assert first == second == (row["items"] if first else [])
    assert not any(row.pop("samples", []) for row in once) and twice == once
    assert once[0]["shots"] == 2 and scored()[0]["shots"] == 0


def test_an_unknown_task_names_the_nearest(scored: Any) -> None:
    with pytest.raises(UserError) as caught:
        scored(tasks=["fact"])
    assert "facts" in caught.value.remedy


def test_a_data_set_is_read_at_the_commit_that_the_suite_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def load_dataset(path: str, name: str | None, **settings: Any) -> Any:
        read.append((path, settings.get("revision")))
        return datasets.DatasetDict({"test": datasets.Dataset.from_list(fact_tasks(0)[:3])})

    monkeypatch.setattr("lm_eval.api.task.datasets.load_dataset", load_dataset)
    task = {"test_split": "test", "output_type": "multiple_choice", "doc_to_text": "query", "doc_to_target": "gold",
            "doc_to_choice": "choices", "metric_list": [{"metric": "acc"}]}  # fmt: skip
    for name in ("mine", "other"):
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"task": name, "dataset_path": f"me/{name}", **task}))
    (tmp_path / "both.yaml").write_text('{"group": "both", "task": ["mine", "other"]}')
    tasks = Tasks(include_path=str(tmp_path), include_defaults=False)
    assert len(suite_items(["both"], tasks, {"me/mine": "12ab"})["mine"]) == 3
    assert read == [("me/mine", "12ab"), ("me/other", None)]


def test_items_of_a_suite_are_those_that_the_harness_asks(tmp_path: Path, root: Path) -> None:
    rows = fact_tasks(0)
    write_table(tmp_path / "facts.jsonl", rows)
    items = suite_items(["knowledge"], prepare(tmp_path, root))
    assert list(items) == ["facts"] and len(items["facts"]) == len(rows)
    for text, row in zip(items["facts"], rows, strict=True):
        assert all(choice in text for choice in row["choices"])
    assert write_items(tmp_path / "items.parquet", items | {"empty": []}) == len(rows)
    assert read_items(tmp_path / "items.parquet") == items


def test_the_step_gathers_them_from_the_harness(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "facts.jsonl", fact_tasks(0))
    prepare(tmp_path, root)
    small = (
        "import smolmake.evaluate.harness_tasks as t; harness = t.Tasks\n"
        "t.Tasks = lambda: harness(include_path='tasks', include_defaults=False)"  # all of it takes half a minute
    )
    gathered = job("suite_items", "filtered", SuiteItemsSpec(tasks=["knowledge"]), {})
    run(tmp_path, gathered, code=small)
    manifest = read_manifest(tmp_path / gathered["folder"] / "manifest.json")
    assert manifest["facts"] == {"tasks": 1, "items": len(fact_tasks(0))}
    assert list(read_items(tmp_path / gathered["folder"] / ITEMS)) == ["facts"]
    asked = job("suite_items", "filtered", SuiteItemsSpec(tasks=["facs"]), {})
    assert "did you mean `facts`?" in fail(tmp_path, asked, code=small)


def test_items_that_cannot_be_had_name_the_task(tmp_path: Path, root: Path) -> None:
    write_table(tmp_path / "facts.jsonl", fact_tasks(0))
    manager = prepare(tmp_path, root)
    with pytest.raises(UserError) as caught:
        suite_items(["fact"], manager)
    assert "facts" in caught.value.remedy
    (tmp_path / "tasks/data/facts.jsonl").unlink()
    with pytest.raises(UserError, match="`facts` cannot be had"):
        suite_items(["facts"], manager)


def test_a_task_that_is_not_known_is_told_with_its_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    origin = {"evaluation.suites.math.tasks": ["gsm8k", "gsm9k"], "evaluation.suites.code.tasks": ["humaneval"]}
    job = Job("check_tasks", "mine", "0123456789", tmp_path, Spec(), {}, Run(), recipe_values=origin, recipe="mine")
    unknown = UserError("no such task", key="evaluation.suites.*.tasks", value="gsm9k", remedy="mend it")
    told = named(unknown, job)
    assert (told.key, told.value, told.file) == ("evaluation.suites.math.tasks", "gsm9k", "the recipe mine")
    offline = UserError("no data", key="evaluation.suites.*.tasks", value=OSError(), remedy="check the network")
    (tmp_path / "config" / "recipes").mkdir(parents=True)
    (tmp_path / "config" / "recipes" / "mine.yaml").touch()
    told = named(offline, job)
    assert told.key == ", ".join(origin) and told.file == Path("config/recipes/mine.yaml")
    assert named(plain := UserError("other", key="seed", remedy="mend it"), job) is plain


def lay_out_checkpoint(place: Path, root: Path) -> None:
    """A tree with a tokenizer, a checkpoint, the toy's facts and chats, and the harness's task of facts."""
    rows, folder = fact_tasks(0), place / "results/segment/main"
    write_table(place / "facts.jsonl", rows)
    prepare(place, root)
    (place / "own").mkdir()
    for name in ("facts.yaml", "chat.yaml", "chat_metrics.py"):
        shutil.copy(root / "examples/toy/tasks" / name, place / "own")
    write_table(place / "questions/facts.jsonl", rows)
    write_table(place / "questions/chat.jsonl", chat_tasks(0))
    size = write_tokenizer(place / "results/tokenizer/bpe", [str(row) for row in rows], 500)
    finish(place / "results/tokenizer/bpe", ["tokenizer.json", "tokenizer_config.json"], {})
    shape = {"vocab_size": size, "num_hidden_layers": 2, "max_position_embeddings": 2048}
    model, tokenizer = decoder(**shape), place / "results/tokenizer/bpe"
    save_model(model, folder / "checkpoint", tokenizer, 0)
    save_logits(model.config, model.state_dict(), tokenizer, folder / "checkpoint")
    files = [f"checkpoint/{file.name}" for file in (folder / "checkpoint").iterdir()]
    finish(folder, files, {"tokens_total": 100})


@pytest.mark.slow
def test_the_jobs_of_evaluation_give_scores(tmp_path: Path, root: Path) -> None:
    """A suite's, a checkpoint's own tasks, and the check of all tasks before anything trains."""
    lay_out_checkpoint(tmp_path, root)
    small = (
        "import smolmake.evaluate.harness as h, smolmake.evaluate.harness_tasks as t\n"
        "h.Tasks = lambda metadata: t.Tasks(include_path='tasks', include_defaults=False)"
    )
    template = (root / "config/templates/smollm3-short.jinja").read_text()
    harness = HarnessTasks(tasks=["knowledge"], limit=6)
    own = TaskFiles(folder="own", content="", data=PathDataset(path="questions", format="auto", content=""))
    checkpoint = {"checkpoint": "results/segment/main/manifest.json"}
    lines = [json.dumps({"question": row["query"], "choices": row["choices"], "answer": row["gold"]})
             for row in fact_tasks(0)[:5]]  # fmt: skip
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    data = PathDataset(path="own.jsonl", format="auto", content="")
    mine = QuestionFiles(data=data, ask=["cf", "fg"], prompt="{question}", delimiter="")
    jobs = [
        job("suite", "main.english", SuiteSpec(harness=harness, template=None), checkpoint),
        job("suite", "main.mine", SuiteSpec(harness=HarnessTasks(limit=2), questions=mine, template=None), checkpoint),
        job("evaluation", "main", EvaluationSpec(tasks=own, limit=3, prompts=["The"], chat_prompts=["How?"],
                                                 template=template, heldout_tokens=None), checkpoint),
        job("check_tasks", "mine", CheckTasksSpec(tasks=own, template=template, suites={
            "english": SuiteSpec(harness=harness, template=None),
            "mine": SuiteSpec(harness=HarnessTasks(), questions=mine, template=None)}),
            {"tokenizer": "results/tokenizer/bpe/manifest.json"}),
    ]  # fmt: skip
    for each, more in zip(jobs, ({"suite": "english"}, {"suite": "mine"}, {}, {}), strict=True):
        run(tmp_path, {**each, "run": {"device": "cpu", **more}}, code=small)
    suite, asked_mine, evaluation, checked = (
        json.loads((tmp_path / "results" / name).read_text())
        for name in (
            "suite/main.english/scores.json",
            "suite/main.mine/scores.json",
            "evaluation/main/scores.json",
            "check_tasks/mine/answered.json",
        )
    )
    assert (suite["checkpoint"], suite["suite"]) == ("main", "english")
    suites_own, tasks_own = ([row for row in each["scores"] if not row.get("beside")] for each in (suite, evaluation))
    assert {(row["task"], row["metric"], row["n"]) for row in suites_own} == {("facts", "acc", 6)}
    asked = {(row["task"], row["metric"], row["n"], *row["questions"]) for row in tasks_own}
    chats = {("chat", metric, 3, "chat") for metric in ("format", "switch", "answer")}
    assert asked == {("facts", "acc", 3, "facts")} | chats and evaluation["tokens"] == 100
    assert checked == {"tasks": 2, "english": 1, "mine": 2}
    assert {(row["task"], row["formulation"]) for row in asked_mine["scores"]} == {("own_cf", "CF"), ("own_fg", "FG")}
    texts = pq.read_table(tmp_path / "results/evaluation/main/answers.parquet").to_pylist()
    assert {(row["task"], row["item"]) for row in texts} == {(name, n) for name in ("facts", "chat") for n in range(3)}
    assert pq.read_table(tmp_path / "results/suite/main.english/answers.parquet").num_rows == 6
    for name in ("suite/main.english", "evaluation/main"):
        assert 0 <= read_manifest(tmp_path / "results" / name / "manifest.json")["facts"]["logits_apart"] < 1e-4


@pytest.mark.slow
def test_a_checkpoint_that_is_not_the_trainer_s_model_is_not_scored(tmp_path: Path, root: Path) -> None:
    lay_out_checkpoint(tmp_path, root)
    folder = tmp_path / "results/segment/main"
    config = json.loads((folder / "checkpoint/config.json").read_text())
    (folder / "checkpoint/config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-2}))
    finish(folder, [f"checkpoint/{file.name}" for file in (folder / "checkpoint").iterdir()], {"tokens_total": 100})
    asked = SuiteSpec(harness=HarnessTasks(tasks=["facts"]), template=None)
    step = job("suite", "main.english", asked, {"checkpoint": "results/segment/main/manifest.json"})
    said = fail(tmp_path, {**step, "run": {"device": "cpu", "suite": "english"}})
    assert "other logits" in said and not (tmp_path / "results/suite/main.english/scores.json").exists()


@pytest.mark.slow
def test_the_harness_s_files_are_read_once_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is kept of them finds each task, group and tag as they did."""
    monkeypatch.chdir(tmp_path)
    first, whole = Tasks(), TaskManager()
    monkeypatch.setattr(TaskIndex, "_iter_yaml_files", lambda root: pytest.fail("read again"))
    kept = Tasks()
    assert kept.all_tasks == first.all_tasks == whole.all_tasks and len(kept.all_tasks) > 1000
    for name, entry in whole.task_index.items():
        found = kept.task_index[name]
        assert (found.kind, found.yaml_path, found.tags) == (entry.kind, entry.yaml_path, entry.tags)
    monkeypatch.setattr("smolmake.evaluate.harness_tasks.metadata.version", lambda _: "another")
    with pytest.raises(pytest.fail.Exception, match="read again"):
        Tasks()
