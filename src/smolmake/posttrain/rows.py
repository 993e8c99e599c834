"""Rows of conversations, pairs and prompts in the forms in which people have them, brought into one form.

A conversation stands in one of FORMS's columns, told row by row. Whoever reads the rows names file, key and number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from smolmake.data.chat import Messages
from smolmake.data.columns import MissingColumn, Row
from smolmake.posttrain.messages import bad_row, no_nulls, parsed, to_message

SETTINGS = "chat_template_kwargs"
RESERVED = (
    "messages", "conversations", "documents", "chat_template", "add_generation_prompt", "continue_final_message",
    "return_assistant_tokens_mask",
)  # fmt: skip
UNPRINTED = ("persona", "custom_instructions")  # columns that are no argument of a template: found to be lost


@dataclass
class Conversation:
    """Messages, the template's arguments (`tools` among them), whether each answer is trained, columns of text that no
    template sees."""

    messages: Messages
    settings: dict[str, Any]
    trained: list[bool] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)


@dataclass
class Pair:
    """Two answers to the same messages."""

    prompt: Messages
    chosen: dict[str, Any]
    rejected: dict[str, Any]
    settings: dict[str, Any]


def to_conversation(row: Row, unified: bool = False) -> Conversation:
    """The conversation of a row; `unified` files (Parquet, Arrow) fill objects up with null keys.

    Raises:
        UserError: for what no conversation can be made of, without the row's number.
    """
    form = next((form for form in FORMS if row.get(form) is not None), None)
    if form is None and not any(form in row for form in FORMS):
        raise MissingColumn("messages", row, file=None)
    if form is None:
        raise bad_row("the row has no conversation", None)
    raw = list(FORMS[form](row))
    messages = [to_message(message, number, unified) for number, message in enumerate(raw, 1)]
    if not messages or messages[-1]["role"] != "assistant":
        raise bad_row("the conversation does not end with the assistant", raw[-2:], "take out what follows the answer")
    if (system := row.get("system")) and isinstance(system, str):
        if messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": system})
        elif messages[0]["content"] != system:
            raise bad_row("the column `system` and the first message say different things", system)
    trained = [bool(message.pop("weight", 1)) if message["role"] == "assistant" else False for message in messages]
    answers = [train for train, message in zip(trained, messages, strict=True) if message["role"] == "assistant"]
    columns = {name: row[name] for name in UNPRINTED if isinstance(row.get(name), str) and row[name].strip()}
    return Conversation(messages, to_settings(row, unified), answers, columns)


def to_settings(row: Row, unified: bool = False) -> dict[str, Any]:
    """The arguments that a row gives to the template: its `chat_template_kwargs`, and its `tools`."""
    settings = parsed(row.get(SETTINGS), SETTINGS) or {}
    if not isinstance(settings, dict):
        raise bad_row(f"`{SETTINGS}` is no object", settings)
    settings = {name: value for name, value in settings.items() if value is not None}
    for name in RESERVED:
        if name in settings:
            raise bad_row(f"`{SETTINGS}` cannot have `{name}`", settings[name], f"take `{name}` out of it")
    tools = parsed(settings.pop("tools", None) or row.get("tools"), "tools")
    if tools:
        tools = [parsed(tool, "tools") for tool in tools] if isinstance(tools, list) else tools
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise bad_row(
                "`tools` is no list of definitions", tools, "give JSON schemas: a list of objects, or as text"
            )
        settings["tools"] = no_nulls(tools) if unified else tools
    return settings


def to_pair(row: Row, unified: bool = False) -> Pair:
    """The pair of a row: `chosen` and `rejected` are whole conversations, or answers to its `prompt`."""
    for column in ("chosen", "rejected"):
        if column not in row:
            raise MissingColumn(column, row, file=None)
    begin = _turns(row.get("prompt"), "user", unified) if row.get("prompt") else []
    sides = [_turns(row[column], "assistant", unified) for column in ("chosen", "rejected")]
    for name, side in zip(("chosen", "rejected"), sides, strict=True):
        if not side or side[-1]["role"] != "assistant":
            raise bad_row(f"`{name}` does not end with the assistant", row[name])
        for message in side:
            message.pop("weight", None)
        if all(message["role"] == "assistant" for message in side):
            side[:0] = begin
        elif len(begin) > 1 and side[: len(begin)] != begin:
            raise bad_row(f"`{name}` does not begin with `prompt`", row["prompt"], "let it hold the answer alone")
    chosen, rejected = sides
    if chosen[:-1] != rejected[:-1]:
        number = next((n for n, two in enumerate(zip(chosen, rejected, strict=False), 1) if two[0] != two[1]), 0)
        raise bad_row(
            f"`chosen` and `rejected` differ before the last answer, at message {number}", None,
            "a pair is two answers to the same messages: cut both after the first answer that differs",
        )  # fmt: skip
    if len(chosen) < 2:
        raise bad_row("the pair answers nothing", row["chosen"], "give a `prompt`, or whole conversations")
    if chosen[-1] == rejected[-1]:
        raise bad_row("`chosen` and `rejected` are the same", chosen[-1]["content"], "take the row out")
    return Pair(chosen[:-1], chosen[-1], rejected[-1], to_settings(row, unified))


def conversations(made: Conversation | Pair) -> list[Conversation]:
    """A conversation, or the two of a pair."""
    if isinstance(made, Conversation):
        return [made]
    return [Conversation([*made.prompt, side], made.settings) for side in (made.chosen, made.rejected)]


def to_prompt(row: Row, unified: bool = False) -> Row:
    """A row with its `prompt` and the template's arguments."""
    if "prompt" not in row:
        raise MissingColumn("prompt", row, file=None)
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        raise bad_row("`prompt` is no text", row["prompt"])
    return {"prompt": row["prompt"], SETTINGS: to_settings(row, unified)}


def _turns(raw: Any, role: str, unified: bool) -> Messages:
    """A column of a pair: a text of that role, a message or a list of them."""
    if isinstance(raw, str):
        return [{"role": role, "content": raw}]
    raw = [raw] if isinstance(raw, dict) else raw
    if not isinstance(raw, list):
        raise bad_row("a side of the pair is no text and no list of messages", raw)
    return [to_message(message, number, unified) for number, message in enumerate(raw, 1)]


def _listed(column: str) -> Callable[[Row], Iterator[Any]]:
    def turns(row: Row) -> Iterator[Any]:
        raw = parsed(row[column], column)
        if not isinstance(raw, list):
            raise bad_row(f"`{column}` is no list of messages", raw)
        yield from raw

    return turns


def _instruction(row: Row) -> Iterator[Any]:
    """Alpaca's columns, `history` among them: pairs of an instruction and its answer."""
    for pair in row.get("history") or []:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise bad_row("`history` is no list of pairs", pair)
        yield {"role": "user", "content": pair[0]}
        yield {"role": "assistant", "content": pair[1]}
    parts = [row["instruction"], row.get("input")]
    if any(part is not None and not isinstance(part, str) for part in parts):
        raise bad_row("`instruction` or `input` is no text", parts)
    yield {"role": "user", "content": "\n\n".join(part for part in parts if part)}
    yield {"role": "assistant", "content": row.get("output")}


def _completion(row: Row) -> Iterator[Any]:
    for column, role in (("prompt", "user"), ("completion", "assistant")):
        raw = row.get(column)
        if isinstance(raw, list):
            yield from raw
        else:
            yield {"role": role, "content": raw}


# The column that tells a form, the first one of them that a row has.
FORMS: dict[str, Callable[[Row], Iterator[Any]]] = {
    "messages": _listed("messages"),
    "conversations": _listed("conversations"),
    "completion": _completion,
    "instruction": _instruction,
}
