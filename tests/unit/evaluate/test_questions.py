"""A user's own questions: one description asked in every formulation, scored as computed by hand, and checked."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.data_jobs import job, run
from helpers.models import decoder, save_model, write_tokenizer
from helpers.recipes import SMALL, write_recipe
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from smolmake.errors import UserError
from smolmake.evaluate.items import ITEMS, read_items
from smolmake.evaluate.question_tasks import normalised, score_questions, write_question_tasks
from smolmake.evaluate.questions import read_questions
from smolmake.graph.build import build_steps
from smolmake.graph.specs.data import PathDataset, SuiteItemsSpec
from smolmake.graph.specs.evaluate import QuestionFiles
from smolmake.planning.checks import check_plan
from smolmake.recipe.evaluation import PROMPT, Formulation, HarnessTasks
from smolmake.recipe.load import load_recipe
from smolmake.stats import guess_interval, share_interval

ROWS: list[dict[str, Any]] = [
    {"question": "Which sea is salty?", "choices": ["The Black Sea", "the sky", "tea"], "answer": "the sky"},
    {"question": "How many legs has a cat?", "choices": ["four", "twenty-one"], "answer": 0},
    {"question": "What is {choices}?", "choices": ["words", "a cat's name", "Übermut", "x"], "answer": "C"},
]
Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("model")
    size = write_tokenizer(folder / "tokenizer", [json.dumps(row, ensure_ascii=False) for row in ROWS] * 3, 400)
    shape = {"vocab_size": size, "num_hidden_layers": 2, "max_position_embeddings": 512}
    save_model(decoder(**shape), folder / "model", folder / "tokenizer", 0)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder / "model")


def write(place: Path, rows: list[dict[str, Any]]) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return place


def files(path: Path, *ask: Formulation, prompt: str = PROMPT) -> QuestionFiles:
    data = PathDataset(path=str(path), format="auto", content="")
    return QuestionFiles(data=data, ask=list(ask), prompt=prompt, delimiter=" ")


def likelihood(loaded: Loaded, context: str, continuation: str) -> tuple[float, int]:
    """The log-likelihood of a continuation and its tokens, read off the model one sequence at a time."""
    model, tokenizer = loaded
    before, whole = tokenizer(context)["input_ids"], tokenizer(context + continuation)["input_ids"]
    before = before or [tokenizer.eos_token_id]
    whole = whole if context else before + whole
    with torch.no_grad():
        scores = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    added = range(len(before), len(whole))
    return sum(float(scores[at - 1, whole[at]]) for at in added), len(added)


def test_one_description_is_asked_in_every_formulation(tmp_path: Path) -> None:
    path = write(tmp_path / "seas.jsonl", ROWS)
    sets = write_question_tasks(files(path, "cf", "mcf", "hybrid", "fg"), tmp_path / "tasks", False, None)
    assert sets == dict.fromkeys(("seas_cf", "seas_mcf", "seas_hybrid", "seas_fg"), "seas")
    first = {task: json.loads((tmp_path / "tasks" / f"{task}.jsonl").read_text().splitlines()[0]) for task in sets}
    plain, shown = (
        "Question: Which sea is salty?\nAnswer:",
        "Question: Which sea is salty?\n A. The Black Sea\n B. the sky\n C. tea\nAnswer:",
    )
    assert first["seas_cf"] == {"query": plain, "options": ROWS[0]["choices"], "gold": 1}
    assert first["seas_mcf"] == {"query": shown, "options": ["A", "B", "C"], "gold": 1}
    assert first["seas_hybrid"] == {"query": shown, "options": ROWS[0]["choices"], "gold": 1}
    assert first["seas_fg"] == {"query": plain, "answers": ["the sky"]}
    third = json.loads((tmp_path / "tasks" / "seas_cf.jsonl").read_text().splitlines()[2])
    assert third["query"] == "Question: What is {choices}?\nAnswer:"  # a question's own braces are its text


def test_scores_are_those_computed_by_hand(untrained: Loaded, tmp_path: Path) -> None:
    path = write(tmp_path / "seas.jsonl", ROWS)
    rows = score_questions(*untrained, files(path, "cf", "mcf", "hybrid"), HarnessTasks(), None)
    assert {row["task"]: row["formulation"] for row in rows} == {
        "seas_cf": "CF", "seas_mcf": "MCF", "seas_hybrid": "hybrid",
    }  # fmt: skip
    found = {(row["task"], row["metric"]): row for row in rows}
    golds = [1, 0, 2]
    for how in ("cf", "mcf", "hybrid"):
        expected: dict[str, list[float]] = {}
        for question, gold in zip(read_questions(path), golds, strict=True):
            asked = question.asked(how, PROMPT)
            options = asked["options"]
            assert asked["gold"] == gold
            pairs = [likelihood(untrained, asked["query"], f" {option}") for option in options]
            sums = [value for value, _ in pairs]
            alone = [likelihood(untrained, "", f" {option}")[0] for option in options]
            by = {
                "acc": sums,
                "acc_norm": [s / len(option) for s, option in zip(sums, options, strict=True)],
                "acc_bytes": [s / len(option.encode()) for s, option in zip(sums, options, strict=True)],
                "acc_tokens": [value / tokens for value, tokens in pairs],
                "acc_mutual_info": [s - a for s, a in zip(sums, alone, strict=True)],
            }
            for metric, values in by.items():
                expected.setdefault(metric, []).append(float(values.index(max(values)) == gold))
            share = math.exp(sums[gold]) / sum(map(math.exp, sums))
            expected.setdefault("choice_prob_norm", []).append(share)
            bits = -sums[gold] / math.log(2) / len(options[gold].encode())
            expected.setdefault("bits_per_byte", []).append(bits)
        if how == "mcf":  # letters are equally long
            expected = {m: v for m, v in expected.items() if m not in ("acc_norm", "acc_bytes", "acc_mutual_info")}
        assert {metric for task, metric in found if task == f"seas_{how}"} == set(expected)
        for metric, items in expected.items():
            row = found[f"seas_{how}", metric]
            assert row["items"] == pytest.approx(items, abs=1e-4), (how, metric)
            assert row["value"] == pytest.approx(sum(items) / 3, abs=1e-4) and row["low"] <= row["value"] <= row["high"]
            chance = 0.0 if metric == "bits_per_byte" else (1 / 3 + 1 / 2 + 1 / 4) / 3
            assert row["chance"] == pytest.approx(chance) and row["share"] == (metric != "bits_per_byte")
            assert row["higher_is_better"] == (metric != "bits_per_byte") and row["questions"] == ["seas"]


def test_items_of_one_question_are_one_draw_and_chance_has_its_interval(untrained: Loaded, tmp_path: Path) -> None:
    rows = [ROWS[0] | {"answer": number % 3} for number in range(6)] + [ROWS[1]] * 2
    scores = score_questions(*untrained, files(write(tmp_path / "seas.jsonl", rows), "cf"), HarnessTasks(), None)
    assert all(row["clusters"] == [0] * 6 + [1] * 2 for row in scores)
    row = next(row for row in scores if row["metric"] == "acc")
    assert (row["low"], row["high"]) == share_interval(row["items"], row["clusters"], 8)[1:]
    alone = share_interval(row["items"])[1:]
    assert row["high"] - row["low"] > alone[1] - alone[0]
    chance = (6 / 3 + 2 / 2) / 8
    assert (row["chance"], row["chance_low"], row["chance_high"]) == (chance, *guess_interval(chance, 8))
    share = next(row for row in scores if row["metric"] == "choice_prob_norm")
    assert share["chance_low"] == share["chance_high"] == chance  # it is no count of right answers


def test_written_answers_are_compared_as_squad_does(untrained: Loaded, tmp_path: Path) -> None:
    assert normalised(" The  Sky, at\nnight! ") == "sky at night"
    rows = [{"question": f"What is {n} + 2?", "answer": [n + 2, "more"]} for n in range(3)]
    asked = HarnessTasks(generation={"max_gen_toks": 4}, shots=1)
    (row,) = score_questions(*untrained, files(write(tmp_path / "sums.jsonl", rows)), asked, None)
    assert (row["task"], row["metric"], row["formulation"], row["n"]) == ("sums_fg", "exact_match", "FG", 3)


@pytest.mark.parametrize("name", ["seas.csv", "seas.parquet", "seas.json"])
def test_every_format_holds_the_same_questions(tmp_path: Path, name: str) -> None:
    rows = [row | {"answer": str(row["answer"])} for row in ROWS]
    place = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), place)
    elif name.endswith("json"):
        place.write_text(json.dumps(rows))
    else:
        quoted = [[v if isinstance(v, str) else json.dumps(v) for v in row.values()] for row in rows]
        lines = [",".join('"' + value.replace('"', '""') + '"' for value in values) for values in quoted]
        place.write_text("\n".join(["question,choices,answer", *lines]))
    assert read_questions(place) == read_questions(write(tmp_path / "more" / "seas.jsonl", ROWS))


def recipe(more: str = "", beside: str = "") -> str:
    return SMALL + f"evaluation:\n  suites:\n    mine: {{questions: {{path: mine.jsonl{more}}}{beside}}}\n"


def refused(tree: Path, content: str, more: str = "", beside: str = "") -> UserError:
    (tree / "mine.jsonl").write_text(content)
    path = write_recipe(tree, recipe(more, beside))
    with pytest.raises(UserError) as caught:
        check_plan(load_recipe(str(path), tree), path, tree)
    assert caught.value.remedy and len(str(caught.value).splitlines()) <= 6, str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("row", "what", "remedy"),
    [
        ({"question": "How?"}, "column `answer`", "question"),
        ({"Question": "How?", "answer": "so"}, "column `question`", "did you mean `Question`"),
        ({"question": "How?", "choices": ["so", "not so"], "answer": "never"}, "none of the choices", "so, not so"),
        ({"question": "How?", "choices": ["so", "not so"], "answer": 2}, "none of the choices", "from 0"),
        ({"question": "How?", "choices": ["so", "so"], "answer": "so"}, "not different", "2 to 26"),
        ({"question": "How?", "choices": ["so"], "answer": "so"}, "too few", "2 to 26"),
        ({"question": "How?", "choices": "so", "answer": "so"}, "no list", '["red", "blue"]'),
        ({"question": " ", "choices": ["so", "not so"], "answer": "so"}, "question is no text", "as a text"),
        ({"question": "How?", "choices": ["so", "not so"], "answer": None}, "none of the choices", "so, not so"),
        ({"question": "How?", "answer": "so"}, "some questions have choices", "two files"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_told_with_its_line(tree: Path, row: dict[str, Any], what: str, remedy: str) -> None:
    good = {"question": "How?", "choices": ["so", "not so"], "answer": "so"}
    error = refused(tree, "\n".join([json.dumps(good), "", json.dumps(row)]))
    assert what in error.what and remedy in error.remedy
    assert (error.key, error.line) == ("evaluation.suites.mine.questions", 3)
    assert "mine.jsonl:3" in str(error)


def test_questions_that_cannot_be_asked_so_are_refused(tree: Path) -> None:
    row = '{"question": "How?", "answer": "so"}\n'
    assert "without choices" in refused(tree, row, ", ask: [mcf]").what
    error = refused(tree, row * 2, beside=", shots: 2")
    assert (error.key, error.value) == ("evaluation.suites.mine.shots", 2)
    assert "empty" in refused(tree, "").what
    error = refused(tree, row, ", ask: [mcf], prompt: '{question}'")
    assert "{choices}" in error.what and error.key == "evaluation.suites.mine.questions.prompt"
    assert "ends in a space" in refused(tree, row, ", prompt: '{question} '").what
    assert "give one of" in refused(tree, row, beside=", tasks: [hellaswag]").what
    (tree / "mine.jsonl").rename(tree / "other.jsonl")
    path = write_recipe(tree, recipe())
    with pytest.raises(UserError, match="no such file"):
        load_recipe(str(path), tree)


def test_the_sources_are_searched_for_the_questions(tree: Path, root: Path) -> None:
    """The graph gathers them before documents are cleaned, once however many suites ask them."""
    write(tree / "mine.jsonl", ROWS)
    text = recipe(", ask: [cf]") + "    again: {questions: {path: mine.jsonl, ask: [mcf]}}\n"
    steps = build_steps(load_recipe(str(write_recipe(tree, text)), tree), tree)
    gathered = next(iter(steps.of_kind("suite_items")))
    spec = gathered.spec_as(SuiteItemsSpec)
    assert not spec.tasks and spec.questions is not None and len(spec.questions) == 1
    assert all(step.inputs["suite_items:filtered"] is gathered for step in steps.of_kind("documents"))
    suites = {step.name for step in steps.of_kind("suite")}
    assert {name.rpartition(".")[2] for name in suites} == {"mine", "again"}


@pytest.mark.slow
def test_the_step_gathers_them(tmp_path: Path) -> None:
    write(tmp_path / "mine.jsonl", ROWS)
    questions = [PathDataset(path="mine.jsonl", format="auto", content="")]
    gathered = job("suite_items", "filtered", SuiteItemsSpec(tasks=[], questions=questions), {})
    run(tmp_path, gathered)
    items = read_items(tmp_path / gathered["folder"] / ITEMS)
    assert items["mine"][0] == "Which sea is salty? The Black Sea the sky tea" and len(items["mine"]) == 3
