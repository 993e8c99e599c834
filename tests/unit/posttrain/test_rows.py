"""Rows as people have them become the conversations, pairs and prompts that they are; others are refused by name."""

import json
from typing import Any

import pytest

from smolmake.data.columns import MissingColumn
from smolmake.errors import UserError
from smolmake.posttrain.rows import to_conversation, to_pair, to_prompt

U, A = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}
TOOL = {"role": "tool", "content": "4"}
S = {"role": "system", "content": "Be kind."}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}


def called(call: Any, content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": [call]}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"messages": [U, A]}, [U, A]),
        ({"messages": json.dumps([U, A])}, [U, A]),
        ({"messages": [U | {"name": None, "tool_calls": None}, A | {"weight": None}], "conversations": None}, [U, A]),
        ({"messages": [U | {"content": [{"type": "text", "text": "2 "}, "+ 2?"]}, A]}, [U, A]),
        ({"messages": [U, A], "system": "Be kind."}, [S, U, A]),
        ({"messages": [S, U, A], "system": "Be kind."}, [S, U, A]),
        ({"messages": [S | {"role": "developer"}, U, A]}, [S, U, A]),
        ({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4."}]}, [U, A]),
        ({"conversations": [U, A]}, [U, A]),
        ({"instruction": "2 + 2?", "input": "", "output": "4."}, [U, A]),
        ({"instruction": "2 +", "input": "2?", "output": "4."}, [U | {"content": "2 +\n\n2?"}, A]),
        ({"instruction": "2 + 2?", "output": "4.", "history": [["1?", "1."]], "system": "Be kind."},
         [S, U | {"content": "1?"}, A | {"content": "1."}, U, A]),
        ({"prompt": "2 + 2?", "completion": "4."}, [U, A]),
        ({"prompt": [S, U], "completion": [A]}, [S, U, A]),
        ({"messages": [U, A | {"thinking": "B"}]}, [U, A | {"reasoning_content": "B"}]),
        ({"messages": [U, {"role": "tool", "content": "4", "tool_call_id": 7}, A]}, [U, TOOL, A]),
    ],
)  # fmt: skip
def test_the_forms_of_a_conversation(row: dict[str, Any], messages: list[Any]) -> None:
    assert to_conversation(row).messages == messages


@pytest.mark.parametrize(
    "call",
    [CALL, CALL | {"id": None}, CALL["function"], {"name": "add", "arguments": {"a": 2}}, json.loads(json.dumps(CALL))],
)
def test_the_forms_of_a_call(call: dict[str, Any]) -> None:
    row = {"messages": [U, called(call), {"role": "tool", "content": "4"}, A]}
    assert to_conversation(row).messages[1]["tool_calls"] == [CALL]
    spoken = {"from": "function_call", "value": json.dumps(CALL["function"])}
    row = {"conversations": [U, spoken, {"from": "observation", "value": "4"}, A]}
    assert to_conversation(row).messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}


def test_ids_of_mixed_types_and_arguments_of_both_kinds() -> None:
    text = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    row = {"messages": [U, called(CALL | {"id": 1}), called(text | {"id": "b"}), A]}
    first, second = (message["tool_calls"][0] for message in to_conversation(row).messages[1:3])
    assert (first["id"], second["id"]) == ("1", "b") and second["function"]["arguments"] == '{"a": 2}'


def test_nulls_of_a_column_of_objects_are_no_arguments() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": None}}}
    unified, written = (to_conversation({"messages": [U, called(call), A]}, u).messages[1] for u in (True, False))
    assert unified["tool_calls"] == [CALL] and written["tool_calls"] == [call]


@pytest.mark.parametrize("settings", [{"enable_thinking": False, "xml_tools": None}, '{"enable_thinking": false}'])
def test_settings_as_object_and_as_text(settings: Any) -> None:
    row = {"messages": [U, A], "chat_template_kwargs": settings, "tools": json.dumps([CALL])}
    assert to_conversation(row).settings == {"enable_thinking": False, "tools": [CALL]}
    assert to_conversation({"messages": [U, A], "chat_template_kwargs": None, "tools": []}).settings == {}


def test_weights_say_which_answers_are_trained() -> None:
    row = {"messages": [U | {"weight": 0}, A | {"weight": 0}, U, A, U, A | {"weight": 1.0}]}
    found = to_conversation(row)
    assert found.trained == [False, True, True] and all("weight" not in message for message in found.messages)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"messages": None}, "no conversation"),
        ({"messages": []}, "does not end with the assistant"),
        ({"messages": [U, A, U]}, "does not end with the assistant"),
        ({"messages": "text"}, "no JSON"),
        ({"messages": {"role": "user"}}, "no list"),
        ({"messages": [U, "4."]}, "message 2 is no object"),
        ({"messages": [{"role": None, "content": "x"}, A]}, "message 1 has no known role"),
        ({"messages": [{"role": "usr", "content": "x"}, A]}, "message 1 has no known role"),
        ({"messages": [U | {"content": None}, A]}, r"message 1 \(user\) has no content"),
        ({"messages": [U, A | {"content": 4}]}, "content of message 2 is no text"),
        ({"messages": [U | {"content": [{"type": "image_url", "image_url": "x"}]}, A]}, "no text: image_url"),
        ({"messages": [U, called({"function": {"arguments": {}}}), A]}, "names no function"),
        ({"messages": [U, called({"name": "f", "arguments": [1]}), A]}, "arguments of a tool call of message 2"),
        ({"messages": [U, A | {"weight": 0.5}]}, "weight 0.5"),
        ({"messages": [U | {"weight": 1}, A]}, "user has the weight 1"),
        ({"messages": [U, A], "chat_template_kwargs": "[1"}, "no JSON"),
        ({"messages": [U, A], "chat_template_kwargs": [1]}, "no object"),
        ({"messages": [U, A], "chat_template_kwargs": {"add_generation_prompt": True}}, "cannot have"),
        ({"messages": [U, A], "tools": ["not json"]}, "no JSON"),
        ({"messages": [U, A], "tools": "5"}, "no list of definitions"),
        ({"messages": [S, U, A], "system": "Be rude."}, "different things"),
        ({"conversations": [{"from": "function_call", "value": "add 2"}, A]}, "no JSON"),
        ({"instruction": "2 + 2?", "output": None}, r"message 2 \(assistant\) has no content"),
        ({"instruction": "2 + 2?", "output": "4.", "history": ["1?"]}, "no list of pairs"),
        ({"prompt": "2 + 2?", "completion": {"role": "assistant"}}, "content of message 2 is no text"),
    ],
)
def test_a_row_that_is_no_conversation(row: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        to_conversation(row)
    assert caught.value.remedy


def test_a_row_of_other_columns() -> None:
    with pytest.raises(MissingColumn):
        to_conversation({"text": "4."})


OTHER = A | {"content": "5."}


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [U, A], "rejected": [U, OTHER]},
        {"chosen": [U, A], "rejected": [U, OTHER], "prompt": "2 + 2?"},
        {"chosen": [U, A], "rejected": [U, OTHER], "prompt": "another"},  # the pair has its own
        {"chosen": [A], "rejected": [OTHER], "prompt": "2 + 2?"},
        {"chosen": [A], "rejected": [OTHER], "prompt": [U]},
        {"chosen": A, "rejected": OTHER, "prompt": U},
        {"chosen": "4.", "rejected": "5.", "prompt": "2 + 2?"},
        {"chosen": [U | {"score": 1, "id": 7}, A | {"model": "x"}], "rejected": [U, OTHER]},
    ],
)
def test_the_forms_of_a_pair(row: dict[str, Any]) -> None:
    pair = to_pair(row)
    assert (pair.prompt, pair.chosen, pair.rejected) == ([U], A, OTHER)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"chosen": [U, A], "rejected": [U | {"content": "3?"}, OTHER]}, "before the last answer, at message 1"),
        ({"chosen": [U, A, U, A], "rejected": [U, OTHER, U, A]}, "at message 2"),
        ({"chosen": [U, A, U, A], "rejected": [U, OTHER]}, "differ before the last answer"),
        ({"chosen": [U, A], "rejected": [U, A | {"score": 2}]}, "are the same"),
        ({"chosen": [A], "rejected": [OTHER]}, "answers nothing"),
        ({"chosen": [U], "rejected": [U, A]}, "`chosen` does not end with the assistant"),
        ({"chosen": None, "rejected": [U, A]}, "no text and no list"),
        ({"chosen": [U, A], "rejected": [U, OTHER], "prompt": [S, U]}, "does not begin with `prompt`"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_pair(row: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        to_pair(row)


@pytest.mark.parametrize("prompt", [None, "", " \n", ["a"]])
def test_a_prompt_is_a_text(prompt: Any) -> None:
    assert to_prompt({"prompt": "a"}) == {"prompt": "a", "chat_template_kwargs": {}}
    with pytest.raises(UserError, match="no text"):
        to_prompt({"prompt": prompt})
