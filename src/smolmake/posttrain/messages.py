"""One message of a conversation, in OpenAI's, ShareGPT's and other spellings, brought into one."""

from __future__ import annotations

import json
from typing import Any

from smolmake.errors import UserError

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "function_call": "assistant", "tool-call": "assistant",
    "tool": "tool", "function": "tool", "function_response": "tool", "observation": "tool", "ipython": "tool",
    "tool-response": "tool",
}  # fmt: skip
REASONING = ("reasoning_content", "reasoning", "thinking")


def bad_row(what: str, value: Any, remedy: str = "correct or remove the row") -> UserError:
    return UserError(what, value=value, remedy=remedy)


def to_message(raw: Any, number: int, unified: bool) -> dict[str, Any]:
    """A message with role, content and, where it has them, reasoning_content, tool_calls, name and weight.

    Raises:
        UserError: for a message that is none.
    """
    if not isinstance(raw, dict):
        raise bad_row(f"message {number} is no object", raw)
    spelled = raw.get("role") or raw.get("from")
    name = spelled.lower() if isinstance(spelled, str) else ""
    role = ROLES.get(name)
    if role is None:
        known = "a message needs a `role` (or `from`): " + ", ".join(ROLES)
        raise bad_row(f"message {number} has no known role", spelled, known)
    content = raw["content"] if raw.get("content") is not None else raw.get("value")
    calls = [_to_call(call, number, unified) for call in _calls(raw, number)]
    if name == "function_call" and not calls:
        found = parsed(content, f"message {number}")
        calls = [_to_call(call, number, unified) for call in (found if isinstance(found, list) else [found])]
        content = None
    reasoning = next((raw[name] for name in REASONING if raw.get(name)), None)
    if reasoning is not None and not isinstance(reasoning, str):
        raise bad_row(f"the reasoning of message {number} is no text", reasoning)
    text = _text(content, number)
    if text is None and not calls and not reasoning:
        raise bad_row(f"message {number} ({role}) has no content", raw)
    extra = {"reasoning_content": reasoning, "tool_calls": calls, "name": raw.get("name"), "weight": _weight(raw, role)}
    return {"role": role, "content": text or ""} | {
        name: value for name, value in extra.items() if value not in (None, [])
    }


def _weight(raw: dict[str, Any], role: str) -> int | None:
    weight = raw.get("weight")
    if weight is None or (role != "assistant" and weight == 0):
        return None
    if weight not in (0, 1) or role != "assistant":
        raise bad_row(f"a message of the {role} has the weight {weight}", raw, "an answer has the weight 0 or 1")
    return int(weight)


def _text(content: Any, number: int) -> str | None:
    """The text of a content: a text, or parts of it."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise bad_row(f"the content of message {number} is no text", content)
    texts: list[Any] = [
        part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None for part in content
    ]
    for part, text in zip(content, texts, strict=True):
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise bad_row(f"message {number} has a part that is no text: {kind}", part)
    return "".join(texts)


def _calls(raw: dict[str, Any], number: int) -> list[Any]:
    calls = parsed(raw.get("tool_calls") or raw.get("function_call"), "tool_calls") or []
    calls = [calls] if isinstance(calls, dict) else calls
    if not isinstance(calls, list):
        raise bad_row(f"the tool calls of message {number} are no list", calls)
    return calls


def _to_call(raw: Any, number: int, unified: bool) -> dict[str, Any]:
    """In OpenAI's form; the arguments stay what they are, an object or its text."""
    function = raw.get("function") or raw if isinstance(raw, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise bad_row(f"a tool call of message {number} names no function", raw)
    arguments = function.get("arguments")
    if not isinstance(arguments, str | dict | None):
        raise bad_row(f"the arguments of a tool call of message {number} are no object and no text", raw)
    arguments = no_nulls(arguments) if unified else arguments
    call = {"type": "function", "function": {"name": function["name"], "arguments": arguments or {}}}
    return call if raw.get("id") is None else {"id": str(raw["id"])} | call


def parsed(value: Any, name: str) -> Any:
    """The value, or what its JSON text says."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except ValueError:
        raise bad_row(f"`{name}` is a text, but no JSON", value) from None


def no_nulls(value: Any) -> Any:
    """Without the keys that are null, as in a column where all objects have the keys of each."""
    if isinstance(value, dict):
        return {name: no_nulls(inner) for name, inner in value.items() if inner is not None}
    return [no_nulls(inner) for inner in value] if isinstance(value, list) else value
