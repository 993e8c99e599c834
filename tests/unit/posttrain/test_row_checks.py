"""Planted faults of rows that can be trained are found by name, with their numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.models import write_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from smolmake.data.chat import ChatFormat
from smolmake.graph.specs.data import PathDataset
from smolmake.graph.specs.posttrain import ConversationsSpec
from smolmake.posttrain.chat_data import Preparation, conversation_rows, pair_rows
from smolmake.posttrain.findings import told_checks
from smolmake.posttrain.row_checks import SHOWN_ROWS
from smolmake.posttrain.token_rows import RowCounts

OFF = {"enable_thinking": False}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, ["What is 2 + 2? It is 4."])
    return AutoTokenizer.from_pretrained(folder)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def good(number: int) -> dict[str, Any]:
    return {"messages": [user(f"{number} + 2?"), said(f"{number + 2}.")]}


def counts_of(
    place: Path, form: ChatFormat, rows: list[dict[str, Any]], pairs: bool = False, **settings: Any
) -> RowCounts:
    (place / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"a": ConversationsSpec(files=PathDataset(path=str(place / "a.jsonl"), format="auto", content=""))}
    prepare = pair_rows if pairs else conversation_rows
    return prepare(data, {}, Preparation(form, "sft", "t.jinja", 0, 1024, **settings), place / "step").counts["a"]


def found(counts: RowCounts) -> dict[str, list[int]]:
    return {name: sorted(of["first"]) for name, of in counts.checks.items()}


@pytest.mark.parametrize("template", ["smollm3.jinja", "smollm3-short.jinja"])
def test_good_rows_have_no_findings(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path, template: str
) -> None:
    form = ChatFormat(tokenizer, (root / "config/templates" / template).read_text())
    call = said("", tool_calls=[{"name": "f", "arguments": "{}"}])
    rows = [
        *map(good, range(5)),
        good(7) | {"chat_template_kwargs": OFF},
        {"messages": [user("1?"), said("<think>\na\n</think>\n1"), user("2?"), said("<think>\nb\n</think>\n2")]},
    ]
    if template == "smollm3.jinja":
        rows.append({"messages": [user("1?"), call, {"role": "tool", "content": "1"}, said("1")]})
    counts = counts_of(tmp_path, form, rows)
    assert counts.checks == {} and counts.trained == len(rows)


def test_planted_faults_are_found(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    form = ChatFormat(tokenizer, (root / "config/templates/smollm3.jinja").read_text())
    planted = {
        3: {"messages": [user("a"), user("b"), said("c")]},
        4: {"messages": [user("a"), said("b"), said("c")]},
        6: {"messages": [user("e"), said(" \n")]},
        8: {"messages": [user("t"), said("<think>a</think><think>b</think>c")]},
        9: {"messages": [user("t"), said("<think>a</think>c", reasoning_content="a")]},
        11: good(1),
        12: {"messages": [user("m"), said("<think>a</think>c")], "chat_template_kwargs": OFF},
    }
    rows = [planted.get(number) or good(number) for number in range(1, 14)]
    counts = counts_of(tmp_path, form, rows)
    (copy,) = found(counts).pop("duplicates")
    assert copy in (1, 11) and counts.trained == 13
    assert {name: numbers for name, numbers in found(counts).items() if name != "duplicates"} == {
        "turns": [3, 4], "empty_answers": [6], "double_thoughts": [8, 9], "prompt": [12], "modes": [12]
    }  # fmt: skip
    assert "2 rows (3, 4): two messages" in "; ".join(told_checks(counts.checks))


def test_many_rows_show_the_first(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    form = ChatFormat(tokenizer, (root / "config/templates/smollm3-short.jinja").read_text())
    counts = counts_of(tmp_path, form, [{"messages": [user(str(n)), said("")]} for n in range(20)])
    (told,) = told_checks(counts.checks)
    assert counts.checks["empty_answers"]["rows"] == 20 and len(found(counts)["empty_answers"]) == SHOWN_ROWS
    assert told.startswith("20 rows (") and ", ...): an answer is empty" in told


def test_a_template_that_does_not_learn_to_stop(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
    )
    counts = counts_of(tmp_path, ChatFormat(tokenizer, template), [good(1), good(2)])
    assert found(counts) == {"end_of_turn": [1, 2], "prompt": [1, 2]}
    counts = counts_of(tmp_path / "..", ChatFormat(tokenizer, template), [good(1)], learn_all=True)
    assert found(counts) == {"prompt": [1]}


def test_pairs_tell_the_bias_of_length(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    form = ChatFormat(tokenizer, (root / "config/templates/smollm3-short.jinja").read_text())
    rows = [
        {"prompt": "a", "chosen": "long " * 9, "rejected": "b"},
        {"prompt": "b", "chosen": "long " * 9, "rejected": ""},
        {"prompt": "c", "chosen": "c", "rejected": "longer"},
    ]
    counts = counts_of(tmp_path, form, rows, pairs=True)
    assert counts.chosen_longer == 2 and found(counts) == {"empty_answers": [2]}
