"""RULER's questions are as long as they say, have one answer, and are the same each time."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.models import write_tokenizer
from helpers.recipes import SMALL
from helpers.recipes import load as load_small
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from smolmake.errors import UserError
from smolmake.evaluate.ruler import DEPTHS, ROOM, RulerItem, ruler_items
from smolmake.evaluate.ruler_answers import right_answers
from smolmake.evaluate.ruler_tasks import recall, score_ruler, with_yarn
from smolmake.graph.build import build_steps
from smolmake.graph.specs.evaluate import RulerQuestions, SuiteSpec
from smolmake.planning.suite_contexts import check_contexts
from smolmake.recipe.evaluation import HarnessTasks, Kind
from smolmake.report.sections.needles import depth_tables_of

Count = Callable[[str], int]


@pytest.fixture(scope="module")
def text(root: Path) -> list[str]:
    return " ".join(path.read_text() for path in sorted((root / "docs" / "how-to").glob("*.md"))).split()


@pytest.fixture(scope="module")
def tokenizer(text: list[str], tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, [" ".join(text)], 1500)
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded


@pytest.fixture(scope="module")
def count(tokenizer: PreTrainedTokenizerBase) -> Count:
    return lambda text: len(tokenizer(text)["input_ids"])


def words(text: str) -> int:
    return len(text.split())


def test_the_kinds_are_ruler_s() -> None:
    assert set(get_args(Kind)) == set(ROOM) and len(ROOM) == 13


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("length", [2048, 4500])
def test_a_question_fills_its_length_and_has_one_answer(kind: str, length: int, text: list[str], count: Count) -> None:
    first = list(ruler_items(kind, length, 3, text, count))
    for item in first:
        assert length - 16 <= item.tokens == count(f"{item.prompt} {item.prefix}") + ROOM[kind] <= length
        assert right_answers(kind, item.prompt) == set(item.answers) and len(set(item.answers)) == len(item.answers)
        assert count(" ".join(item.answers)) <= ROOM[kind] or kind.startswith("niah_multi") or "uuid" in item.prompt
    assert first == list(ruler_items(kind, length, 3, text, count))
    assert len({item.prompt for item in first}) == 3


@pytest.mark.parametrize("kind", ["niah_single_2", "vt", "qa_2"])
def test_any_tokenizer_does(kind: str, text: list[str]) -> None:
    """Words, and bytes of a language without spaces."""
    (item,) = ruler_items(kind, 700, 1, text, words)
    assert 690 <= item.tokens <= 700
    (item,) = ruler_items(kind, 30000, 1, ["长文本中的针" * 9 + "。"] * 50, lambda text: len(text.encode()))
    assert 29800 <= item.tokens <= 30000 and right_answers(kind, item.prompt) == set(item.answers)


def test_single_needles_lie_at_all_depths(text: list[str], count: Count) -> None:
    items = list(ruler_items("niah_single_2", 2048, DEPTHS, text, count))
    assert [item.depth for item in items] == [(n + 0.5) / DEPTHS for n in range(DEPTHS)]
    places = [item.prompt.index("One of the special magic") / len(item.prompt) for item in items]
    assert places == sorted(places) and places[0] < 0.2 and places[-1] > 0.8


def test_what_cannot_be_asked_is_an_error(text: list[str], count: Count) -> None:
    with pytest.raises(UserError, match="longer than that") as caught:
        list(ruler_items("cwe", 300, 1, text, count))
    assert caught.value.key == "evaluation.suites.*.lengths"
    (item,) = ruler_items("qa_1", 2048, 1, text, count)
    assert right_answers("qa_1", item.prompt.replace("kept by", "made by")) == set()
    needle = next(ruler_items("niah_single_1", 512, 1, text, count))
    key = needle.prefix.split(" for ")[1].split()[0]
    assert right_answers("niah_single_1", needle.prompt) == set(needle.answers)
    again = f"One of the special magic numbers for {key} is: 1. {needle.prompt}"
    assert right_answers("niah_single_1", again) != set(needle.answers)


def test_recall_is_the_share_of_answers_in_any_case() -> None:
    row = {"outputs": ["Alpha", "beta", "gamma", "delta"], "max_length": 64, "lengths": [64, 128]}
    assert recall(row, ["\x07alpha and BETA"]) == {"64": 0.5, "128": -1.0}


def test_scores_stand_by_length_and_beyond_the_trained_one_with_yarn(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, text: list[str]
) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=1024)  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    pq.write_table(pa.table({"text": [" ".join(text)]}), tmp_path / "heldout.parquet")
    questions = RulerQuestions(kinds=["niah_single_2", "vt"], text=None, yarn=True)
    asked = HarnessTasks(lengths=[768, 1024, 2048], limit=2)
    rows = score_ruler(model, tokenizer, questions, asked, tmp_path)
    found = {(row["task"], row["length"]): row for row in rows}
    assert set(found) == {("niah_single_2", 768), ("niah_single_2", 1024), ("vt", 768), ("vt", 1024),
                          ("niah_single_2_yarn", 2048), ("vt_yarn", 2048)}  # fmt: skip
    assert found["vt_yarn", 2048]["yarn"] == 2 and "yarn" not in found["vt", 1024]
    assert all(row["n"] == 2 and row["truncated"] == 0 and row["value"] == 0 for row in rows)
    assert found["niah_single_2", 768]["depths"] == [0.05, 0.15] and found["vt", 768]["depths"] == []
    scaled = with_yarn(model, 2048)
    assert scaled.config.max_position_embeddings == 2048 and model.config.max_position_embeddings == 1024
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert not torch.equal(scaled(tokens).logits, model(tokens).logits)


def test_an_item_knows_its_kind(text: list[str], count: Count) -> None:
    item = next(ruler_items("fwe", 2048, 1, text, count))
    assert isinstance(item, RulerItem) and (item.kind, item.length, item.depth) == ("fwe", 2048, None)


def test_a_suite_hides_needles_in_held_out_documents_or_in_a_text(tree: Path) -> None:
    suites = (
        "long: {ruler: {yarn: true}, lengths: [4k]}, own: {ruler: {text: config/*.json, kinds: [vt]}, lengths: [64]}"
    )
    recipe = load_small(tree, SMALL + f"evaluation: {{suites: {{{suites}}}}}\n")
    check_contexts(recipe, tree / "mine.yaml")
    steps = {step.name.rpartition(".")[2]: step for step in build_steps(recipe, tree).of_kind("suite")}
    long, own = steps["long"], steps["own"]
    assert set(long.inputs) == {"checkpoint", "heldout"} and set(own.inputs) == {"checkpoint"}
    spec = own.spec_as(SuiteSpec)
    assert spec.ruler is not None and spec.ruler.text is not None and spec.ruler.kinds == ["vt"]
    with pytest.raises(UserError, match="made to lengths"):
        load_small(tree, SMALL + "evaluation: {suites: {long: {ruler: {}}}}\n")


def test_the_report_shows_depth_by_length(tmp_path: Path) -> None:
    rows = [{"task": "niah_single_2", "length": 4096, "items": [1.0, 0.0, 1.0], "depths": [0.05, 0.15, 0.05]},
            {"task": "vt", "length": 4096, "items": [1.0], "depths": []}]  # fmt: skip
    (table,) = depth_tables_of([("long", "stage1", rows, "scores.json")])
    assert list(table.columns) == ["Task", "Tokens", "5%", "15%"] and table.files == ["scores.json"]
    ((name, length, first, second),) = table.rows
    assert (name, length) == ("niah_single_2 (long, stage1)", "4,096") and "1.00" in first and "0.00" in second
    assert depth_tables_of([]) == []
