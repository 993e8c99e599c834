"""Other models and published numbers beside a recipe's scores, and the questions that two checkpoints differ in."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from smolmake import cli
from smolmake.errors import UserError
from smolmake.evaluate.answers import ANSWERS, write_answers
from smolmake.graph.stages import GraphStage
from smolmake.recipe.comparison import Published
from smolmake.report.artifacts import ReportArtefact
from smolmake.report.blocks import Details, Table
from smolmake.report.checkpoints import Checkpoint, Key, Score
from smolmake.report.score_table import OFF, SCHEMA, write_scores
from smolmake.report.sections.comparison import compared_pairs, comparison_section
from smolmake.report.sections.questions import ChangedQuestions, changed_items, score_folders
from smolmake.stats import sign_test, wilson

FACTS, STAGE = Key("facts", "acc"), GraphStage("main", "pretraining", "main", "main")


def score(items: list[float], task: str = "facts", **more: Any) -> Score:
    value = sum(items) / len(items)
    return Score(task, "acc", value, *wilson(sum(items), len(items)), len(items), 0.25, "CF", items, **more)


def checkpoint(name: str, items: list[float], compared: bool = False) -> Checkpoint:
    file = f"evaluation/{name}-00/scores.json"
    return Checkpoint(name, name, STAGE, 0, {FACTS: score(items, file=file)}, [], file, compared=compared)


def rows(items: list[float], asked: str = "Who?") -> list[dict[str, Any]]:
    said = ["right" if item else "wrong" for item in items]
    return [
        {"task": "facts", "filter": "none", "item": n, "length": None, "question": f"{asked} {n}", "choices": [],
         "target": "right", "answers": [answer]} for n, answer in enumerate(said)
    ]  # fmt: skip


def test_the_sign_test_is_exact() -> None:
    assert [sign_test(*pair) for pair in ((0, 0), (3, 3), (0, 5), (5, 0))] == [1.0, 1.0, 0.0625, 0.0625]
    assert sign_test(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert 0 < sign_test(1000, 1300) < 1e-9


def test_questions_are_paired_by_their_number() -> None:
    changed = changed_items(score([1, 0, 1, 0]), score([1, 1, 0, 1]))
    assert changed == ChangedQuestions([1, 3], [2]) and changed.words == "2 gained, 1 lost, p = 1"
    assert changed_items(score([1, 0]), score([1])) is None
    assert changed_items(Score("a", "bleu", 1, 0, 2, 9, 0, "FG"), Score("a", "bleu", 1, 0, 2, 9, 0, "FG")) is None


def test_the_last_own_checkpoint_is_compared_with_every_model_and_models_alone_with_the_first() -> None:
    first, last = checkpoint("a", [1]), checkpoint("b", [1])
    others = [checkpoint(name, [1], compared=True) for name in ("llama", "qwen", "olmo")]
    names = [(x.name, y.name) for x, y in compared_pairs([first, last, *others])]
    assert names == [("llama", "b"), ("qwen", "b"), ("olmo", "b")]
    assert [(x.name, y.name) for x, y in compared_pairs(others)] == [("llama", "qwen"), ("llama", "olmo")]
    assert compared_pairs([first]) == []


def test_the_report_shows_models_changed_questions_and_published_numbers(tmp_path: Path) -> None:
    before, after = [1.0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0.0, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    both = [checkpoint("llama", before, compared=True), checkpoint("own", after)]
    artefacts = []
    for each, items in zip(both, (before, after), strict=True):
        folder = tmp_path / "evaluation" / f"{each.name}-00"
        write_answers(folder / ANSWERS, rows(items))
        artefacts.append(ReportArtefact("evaluation", each.name, folder, 0, STAGE))
    scores = [{"task": "facts", "metric": "acc", "value": value} for value in (85.0, 20.0, 99.95)]
    missing = {"suite": "exams", "task": "law", "metric": "acc_norm", "value": 12.5}
    cards = {
        "card": {"source": "a card", "at": "own", "scores": [*scores, missing]},
        "shares": {"source": "a table", "at": "llama", "percent": False, "scores": [{**scores[0], "value": 0.2}]},
    }
    published = {name: Published.model_validate(card) for name, card in cards.items()}
    section = comparison_section(both, published, score_folders(artefacts))
    assert section is not None and [block.id for block in section.blocks] == [
        "tab-models",
        "txt-models",
        "tab-published",
    ]
    models, changed, table = section.blocks
    assert isinstance(models, Table) and isinstance(changed, Details) and isinstance(table, Table)
    heading, row = models.rows
    assert [*heading] == ["llama → own"] and row[3] == "+70.0" and "better" in str(row[-1])
    ((summary, items),) = changed.groups
    assert summary == "llama → own, Facts: 8 gained, 1 lost, p = 0.039" and len(items) == 4
    assert items[0].prompt == "Who? 1" and items[0].text == "target: right\nllama: wrong\nown: right"
    assert items[-1].label == "lost, item 0" and changed.files == [
        f"evaluation/{n}-00/{ANSWERS}" for n in ("llama", "own")
    ]
    told = [(row[1], row[3], row[4]) for row in table.rows if len(row) > 1]
    assert told[:3] == [("85.0%", "+5.0", "within the interval"), ("20.0%", "+70.0", "below the interval"),
                        ("100.0%", "−10.0", "above the interval")]  # fmt: skip
    assert "not measured" in str(told[3][2]) and told[3][0] == "12.5"
    assert told[4] == ("20.0%", "0.0", "within the interval")
    assert comparison_section(both[1:], {}, {}) is None


def test_other_questions_are_not_compared(tmp_path: Path) -> None:
    both = [checkpoint("llama", [1.0, 0], compared=True), checkpoint("own", [0.0, 1])]
    folders = {each.file: tmp_path / each.name for each in both}
    for each, asked in zip(both, ("Who?", "What?"), strict=True):
        write_answers(folders[each.file] / ANSWERS, rows([1, 0], asked))
    section = comparison_section(both, {}, folders)
    assert section is not None and [block.id for block in section.blocks] == ["tab-models"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Finished tables of two recipes, `toy` with two checkpoints and `other` with one."""
    table: dict[str, list[dict[str, Any]]] = {"toy": [], "other": []}
    found = (("toy", "main", [1.0, 0, 0, 1]), ("toy", "sft", [1.0, 1, 1, 0]), ("other", "sft", [0.0, 0, 0, 0]))
    for recipe, name, items in found:
        file = f"evaluation/{name}-{recipe}/scores.json"
        write_answers((tmp_path / "results" / file).with_name(ANSWERS), rows(items))
        about = {"recipe": recipe, "checkpoint": f"{name}-0-8", "ends": name, "file": file}
        table[recipe].append(OFF | vars(score(items)) | about)
    for recipe, scores in table.items():
        place = tmp_path / "results" / "latest" / recipe / "scores.parquet"
        known = [{key: value for key, value in row.items() if key in SCHEMA.names} for row in scores]
        write_scores(pa.Table.from_pylist(known, SCHEMA), place)
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_compares_checkpoints_and_recipes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.call(["compare", "main", "sft", "--task", "facts", "--questions", "1"])
    said = capsys.readouterr().out
    assert "Facts" in said and "50.0%  75.0%   +25.0" in said and "2 gained, 1 lost, p = 1" in said
    assert "gained, item 1" in said and "lost, item 3" in said and "gained, item 2" not in said
    assert "main: wrong" in said and "sft: right" in said
    cli.call(["compare", "toy/main-0-8", "other/sft"])
    said = capsys.readouterr().out
    assert "−50.0" in said and "item" not in said.replace("items", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [(["main", "sfd"], "`sft`"), (["main", "sft", "--task", "law"], "facts"), (["a/b", "sft"], "no readable table")],
)
def test_a_wrong_name_is_told(project: Path, words: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        cli.call(["compare", *words])
    assert says in str(caught.value)
