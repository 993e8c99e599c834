"""Intervals are the published ones, held-out loss is what it says, and the harness scores a guesser at chance."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.models import decoder, save_model, write_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from generators.arithmetic import tasks as arithmetic_tasks
from generators.chats import chat_tasks, preference_tasks
from generators.notebooks import tasks as notebook_tasks
from generators.tables import write_table
from generators.world import tasks as fact_tasks
from smolmake.errors import UserError
from smolmake.evaluate.harness import run_harness
from smolmake.evaluate.harness_tasks import Tasks, suite_items
from smolmake.evaluate.heldout import heldout_loss
from smolmake.evaluate.items import item_text, question_files, question_rows
from smolmake.evaluate.samples import generate, write_samples
from smolmake.evaluate.tasks import prepare_tasks, read_task
from smolmake.graph.specs.data import PathDataset
from smolmake.recipe.evaluation import HarnessTasks
from smolmake.stats import wilson

LIMIT = 16
Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("model")
    texts = [str(row["query"]) for row in arithmetic_tasks(0)["word_problems"]]
    size = write_tokenizer(folder / "tokenizer", texts, 500)
    shape = {"vocab_size": size, "num_hidden_layers": 2, "max_position_embeddings": 2048}
    save_model(decoder(**shape), folder / "model", folder / "tokenizer", 0)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder / "model")


def test_the_loss_of_a_uniform_model_is_the_logarithm_of_its_vocabulary(untrained: Loaded) -> None:
    model, tokenizer = untrained
    texts = ["There are 12 shells. Ünïcode too 🦉!", "How many buttons are there now?", "x", ""]
    weights = model.get_output_embeddings().weight
    kept = weights.detach().clone()
    with torch.no_grad():
        weights.zero_()
    measured = heldout_loss(model, tokenizer, texts, 512)
    with torch.no_grad():
        weights.copy_(kept)
    assert measured["loss"] == pytest.approx(math.log(model.config.vocab_size), rel=1e-5)
    assert measured["documents"] == 2  # the others have no second token
    counts = [len(tokenizer(text)["input_ids"]) - 1 for text in texts[:2]]
    assert measured["tokens"] == sum(counts)
    firsts = [tokenizer.decode(tokenizer(text)["input_ids"][:1]) for text in texts[:2]]  # no targets
    sizes = [len(text.encode()) - len(first) for text, first in zip(texts, firsts, strict=False)]
    assert measured["sizes"] == sizes
    bits = measured["loss"] * sum(counts) / math.log(2) / sum(sizes)
    assert measured["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    assert measured["low"] <= measured["bits_per_byte"] <= measured["high"]


def test_documents_are_cut_to_the_models_length(untrained: Loaded) -> None:
    assert heldout_loss(*untrained, ["There are 12 shells. " * 50], 16)["tokens"] == 15


def test_special_tokens_in_held_out_text_are_plain_text(untrained: Loaded) -> None:
    text = "<|end_of_text|>" * 3
    assert heldout_loss(*untrained, [text], 512)["tokens"] > 3


def test_generation_stops_and_does_not_depend_on_its_batch(untrained: Loaded) -> None:
    texts = ["There are 3 shells", "How", "Rosa has 12 buttons and gives 5 away."]
    prompts = [untrained[1].encode(text) for text in texts]
    together = generate(*untrained, prompts, 8)
    assert together == [generate(*untrained, [prompt], 8)[0] for prompt in prompts]
    assert all("<|" not in text for text in together)


def test_samples_are_written_in_both_modes(untrained: Loaded, root: Path) -> None:
    template = (root / "config" / "templates" / "smollm3-short.jinja").read_text()
    samples = write_samples(*untrained, ["There"], ["How many?"], template)
    assert [(s["kind"], s["mode"]) for s in samples] == [("continuation", ""), ("chat", "think"), ("chat", "no_think")]
    assert len(write_samples(*untrained, ["There"], ["How many?"], None)) == 1


def questions(folder: Path) -> dict[str, Path]:
    return question_files(PathDataset(path=str(folder), format="auto", content=""), None)


def write_task_data(folder: Path) -> dict[str, Path]:
    """The toy's evaluation data, as the toy writes it."""
    tasks = {"facts": fact_tasks(0), **arithmetic_tasks(0), **notebook_tasks(0)}
    tasks |= {"chat": chat_tasks(0), "preferences": preference_tasks(0)}
    for name, rows in tasks.items():
        write_table(folder / f"{name}.jsonl", rows)
    return questions(folder)


def test_every_task_runs_and_a_guesser_is_near_chance(untrained: Loaded, root: Path, tmp_path: Path) -> None:
    files = sorted((root / "examples" / "toy" / "tasks").glob("*.[yp][ay]*"))
    data = write_task_data(tmp_path / "data")
    template = (root / "config" / "templates" / "smollm3-short.jinja").read_text()
    # Generation is slow and scores of an untrained model are nothing: the pipeline's test runs it.
    chosen = [file for file in files if file.name != "chat.yaml"]
    prepared = prepare_tasks(chosen, data, tmp_path / "tasks", untrained[1], template)
    names = {read_task(file)["task"] for file in chosen if file.suffix == ".yaml"}
    assert set(prepared) == names and {"facts", "arithmetic", "needle_long", "preferences"} <= names
    tasks = Tasks(include_path=str(tmp_path / "tasks"), include_defaults=False)
    found = run_harness(*untrained, HarnessTasks(tasks=prepared, limit=LIMIT), tasks)
    scores = [score for score in found if not score.get("beside")]
    assert {score["task"] for score in scores} == names
    for score in scores:
        assert score["n"] == LIMIT and score["formulation"] == "CF" and score["chance"] in (0.25, 0.5)
        # An untrained model guesses, but may like short or early answers: within three standard errors and a bit.
        spread = math.sqrt(score["chance"] * (1 - score["chance"]) / LIMIT)
        assert abs(score["value"] - score["chance"]) <= 3.5 * spread, score
        assert (score["low"], score["high"]) == pytest.approx(wilson(score["value"] * LIMIT, LIMIT))


def test_chat_tasks_are_left_out_without_a_template(untrained: Loaded, root: Path, tmp_path: Path) -> None:
    files = sorted((root / "examples" / "toy" / "tasks").iterdir())
    data = write_task_data(tmp_path / "data")
    prepared = prepare_tasks([f for f in files if f.is_file()], data, tmp_path / "tasks", untrained[1], None)
    assert "facts" in prepared and not {"chat", "preferences"} & set(prepared)


def write_task(place: Path, name: str, file: str) -> Path:
    """A task file that asks which answer follows a question."""
    task = {
        "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": file}}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "{{query}}", "doc_to_target": "gold",
        "doc_to_choice": "choices", "metric_list": [{"metric": "acc"}],
    }  # fmt: skip
    place.write_text(json.dumps(task))
    return place


def test_what_is_scored_is_what_the_sources_are_searched_for(untrained: Loaded, tmp_path: Path) -> None:
    """Names with dots, every format, and what JSON allows within a line."""
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"query": f"How many {name}?", "choices": [" 1\u2028", " 2\x85"], "gold": 1} for name in ("cats", "dogs")]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (data / "exam.law.jsonl").write_text(lines + "\n \n")
    (data / "exam.mathematics.jsonl").write_text(lines.replace("How", "So how"))
    (data / "biology.json").write_text("\ufeff" + json.dumps(rows).replace("How", "Just how"))
    (data / "physics.json").write_text(lines.replace("How", "Now how"))
    (data / "README.md").write_text("not a task")
    pq.write_table(pa.Table.from_pylist(rows), data / "history.parquet")
    found = questions(data)
    names = {"exam.law", "exam.mathematics", "biology", "physics", "history"}
    assert set(found) == names
    task_files = [write_task(tmp_path / f"{name}.yaml", name, f"{{data}}/{found[name].name}") for name in names]
    history = tmp_path / "history.yaml"
    history.write_text(history.read_text().replace('"json"', '"parquet"'))
    assert prepare_tasks(task_files, found, tmp_path / "tasks", untrained[1], None) == sorted(names)
    tasks = Tasks(include_path=str(tmp_path / "tasks"), include_defaults=False)
    scores = run_harness(*untrained, HarnessTasks(tasks=sorted(names)), tasks)
    assert {score["task"]: score["n"] for score in scores} == dict.fromkeys(names, 2)
    items = suite_items(sorted(names), tasks)
    assert items == {name: [item_text(row) for row in question_rows(path)] for name, path in found.items()}
    assert items["exam.law"][0] == "How many cats?  1\u2028  2\x85"


@pytest.mark.parametrize("other", ["exam.law.parquet", "exam.law.json", "more/exam.law.jsonl"])
def test_two_files_of_questions_of_one_name_are_refused(tmp_path: Path, other: str) -> None:
    for name in ("exam.law.jsonl", other):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="have the name exam.law") as caught:
        questions(tmp_path)
    assert caught.value.key == "evaluation.data"


@pytest.mark.parametrize("place", ["{data}/fact.jsonl", "elsewhere/facts.jsonl", "{data}/facts.txt", None])
def test_a_task_asks_only_what_the_sources_are_searched_for(tmp_path: Path, place: str | None) -> None:
    (tmp_path / "facts.jsonl").write_text('{"query": "Where?", "choices": ["here", "there"], "gold": 0}\n')
    (tmp_path / "facts.txt").write_text("Where?")
    task = write_task(tmp_path / "facts.yaml", "facts", place or "")
    if place is None:
        task.write_text('{"task": "facts", "dataset_path": "owner/facts"}')
    with pytest.raises(UserError, match="sources would not be searched") as caught:
        prepare_tasks([task], questions(tmp_path), tmp_path / "tasks", None, None)
    assert "facts.jsonl" in caught.value.remedy and caught.value.file == task


@pytest.mark.parametrize("text", ["", "[]", '"text"', "[1]"])
def test_a_file_without_questions_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "exam.json").write_text(text)
    with pytest.raises(UserError, match="questions"):
        question_rows(tmp_path / "exam.json")


def test_items_give_all_their_text_to_decontamination(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Hello"}], "choices": [" here", " there"], "x": None, "gold": 1}
    assert item_text(row) == "user Hello  here  there"
