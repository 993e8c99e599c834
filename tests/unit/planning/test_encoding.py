"""The plan says beforehand where documents will be encoded slowly, why, and how long that takes."""

import json
import re
import sys
from pathlib import Path

import pytest
from helpers.recipes import changed, write_recipe

from smolmake.files import write_json
from smolmake.planning import encoding
from smolmake.planning.plan import Plan, make_plan
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import load_workflow

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from tokenizer_shapes import SHAPES, train

TEXTS = ["Some words, 12 numbers and 漢字; all of them twice."] * 5
# So many tokens that the time is not rounded away.
LARGE = changed("{path: notes.txt, domain: code}", "{path: notes.txt, domain: code, tokens: 100G}")
TAKEN = changed("{vocab_size: 512}", "{path: taken, vocab_size: 512}", LARGE)


def plan_of(tree: Path, text: str) -> Plan:
    return make_plan(load_workflow(str(write_recipe(tree, text)), tree))


def told(plan: Plan) -> str:
    """The plan's lines about tokenizing."""
    return "\n".join(re.findall(r"  tokenizing .*", plan_text(plan)))


def hours(plan: Plan) -> float:
    return sum(plan.costs[step.key].hours or 0.0 for step in plan.running if step.kind == "shards")


def put_tokenizer(tree: Path, shape: str) -> Path:
    (tree / "taken").mkdir(exist_ok=True)
    file = tree / "taken" / "tokenizer.json"
    train(SHAPES[shape], TEXTS, 512).save(str(file))
    described = json.loads(file.read_text())
    vocabulary = described["model"]["vocab"]
    vocabulary |= {f"filler {number}": number for number in range(len(vocabulary), 512)}
    write_json(file, described)
    return file


def test_a_fast_tokenizer_has_no_line(tree: Path) -> None:
    assert told(plan_of(tree, LARGE)) == ""  # trained by the recipe
    put_tokenizer(tree, "smollm2")
    assert told(plan_of(tree, TAKEN)) == ""


def test_a_slow_tokenizer_is_told_with_its_time_and_tried_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = hours(plan_of(tree, LARGE))
    put_tokenizer(tree, "deepseek3")
    plan = plan_of(tree, TAKEN)
    assert hours(plan) == pytest.approx(fast * encoding.SLOWDOWN) and fast > 1
    assert re.search(
        rf"2 sources in .* {encoding.SLOWDOWN} times as long as usual: the fast encoder cannot use this", told(plan)
    )
    assert any("cannot use this" in step["encoder"] for step in plan.as_json()["run"])
    monkeypatch.setitem(sys.modules, "smolmake.data.encoder", None)  # what is remembered needs no encoder
    assert told(plan_of(tree, TAKEN)) == told(plan)


@pytest.mark.parametrize("shape", ["llama2", "mistral", "gemma"])
def test_the_kind_of_sentencepiece_is_slower_by_the_fast_encoder_too(tree: Path, shape: str) -> None:
    fast = hours(plan_of(tree, LARGE))
    put_tokenizer(tree, shape)
    plan = plan_of(tree, TAKEN)
    assert hours(plan) == pytest.approx(fast * 5) and "5 times as long as usual: a tokenizer of Sent" in told(plan)


def test_the_tokenizer_that_is_here_decides_not_what_was_tried_before(tree: Path) -> None:
    put_tokenizer(tree, "deepseek3")
    assert told(plan_of(tree, TAKEN))
    put_tokenizer(tree, "gpt2")
    assert told(plan_of(tree, TAKEN)) == ""


def test_a_tokenizer_of_the_hub_is_not_known_before_it_is_here(tree: Path) -> None:
    text = changed("{vocab_size: 512}", "{hub: some/model, vocab_size: 512}", LARGE)
    plan = plan_of(tree, text)
    assert "the tokenizer of some/model, which is not here yet" in told(plan)
    step = next(step for step in plan.running if step.kind == "tokenizer")
    folder = tree / "results" / step.key
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(put_tokenizer(tree, "qwen").read_bytes())
    assert told(plan_of(tree, text)) == ""


def test_a_python_without_the_fast_encoder_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "installed", lambda: "")
    plan = plan_of(tree, LARGE)
    assert "the fast encoder is not installed: make setup" in told(plan)
