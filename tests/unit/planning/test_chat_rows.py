"""The plan reads every row of the user's conversations and pairs, renders it, and remembers what it found."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.recipes import SMALL, write_recipe

from smolmake.errors import UserError
from smolmake.planning import chat_rows
from smolmake.planning.checks import check_plan, checked_rows
from smolmake.recipe.load import load_recipe

TRAINING = "learning_rate: 1e-3, global_batch_size: 4, max_length: 64"
USER, ANSWER = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}
GOOD = {"messages": [USER, ANSWER]}
TOOLS = GOOD | {"tools": [{"type": "function", "function": {"name": "add"}}]}


def recipe(more: str = "", template: str = "smollm3-short.jinja") -> str:
    data = f"chats: {{path: chats.jsonl{more}}}"
    return SMALL + f"sft: {{loss: assistant, chat_template: {template}, {TRAINING}, data: {{{data}}}}}\n"


def found(tree: Path, text: str, rows: list[dict[str, Any]]) -> chat_rows.CheckedRows:
    (tree / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write_recipe(tree, text)
    loaded = load_recipe(str(path), tree)
    check_plan(loaded, path, tree)
    return checked_rows(loaded, tree)["sft.data.chats"]


def test_an_odd_row_far_behind_the_first_is_found(tree: Path) -> None:
    rows = [*[GOOD] * 500, {"messages": [USER, {"role": None, "content": "4."}]}]
    with pytest.raises(UserError, match="row 501: message 2 has no known role") as caught:
        found(tree, recipe(), rows)
    assert caught.value.key == "sft.data.chats" and "on_error: skip" in caught.value.remedy
    checked = found(tree, recipe(", on_error: skip"), rows)
    assert (checked.rows, checked.skipped) == (501, 1) and checked.first_skipped.startswith("row 501")
    with pytest.raises(UserError, match="none of 1 rows can be trained"):
        found(tree, recipe(", on_error: skip"), rows[500:])


def test_what_the_template_loses_is_found(tree: Path) -> None:
    with pytest.raises(UserError, match=r"smollm3-short.jinja loses tools of 1 row:") as caught:
        found(tree, recipe(), [GOOD, TOOLS])
    assert str(caught.value.value).startswith("row 2, tools") and "may_lose: [tools]" in caught.value.remedy
    assert found(tree, recipe(", may_lose: [tools]"), [GOOD, TOOLS]).lost == {"tools": 1}
    assert found(tree, recipe(template="smollm3.jinja"), [GOOD, TOOLS]).lost == {}


def test_pairs_are_rendered_too(tree: Path) -> None:
    pairs = [
        {"chosen": "4.", "rejected": "5.", "prompt": "2 + 2?"},
        {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]},
    ]
    (tree / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    text = recipe() + f"apo: {{{TRAINING}, data: {{pairs: {{path: pairs.jsonl}}}}}}\n"
    with pytest.raises(UserError, match="row 2: `chosen` and `rejected` are the same") as caught:
        found(tree, text, [GOOD])
    assert caught.value.key == "apo.data.pairs"


def test_what_was_found_is_remembered(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = found(tree, recipe(), [GOOD] * 3)
    monkeypatch.setattr(chat_rows, "_check", lambda *_: pytest.fail("looked again"))
    assert found(tree, recipe(), [GOOD] * 3) == first and first.rows == 3
    for text, rows in ((recipe(), [GOOD] * 4), (recipe(", may_lose: [tools]"), [GOOD] * 3)):
        with pytest.raises(pytest.fail.Exception):
            found(tree, text, rows)
