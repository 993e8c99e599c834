"""config/templates/smollm3.jinja: its texts for every combination of options, and what must hold in all of them."""

import pytest
from helpers.rendered import FILES, GROUPS, TEMPLATE, Case, rendered, said, system_cases, turn_cases, user, whole_file
from transformers.utils.chat_template_utils import render_jinja_template

from smolmake.data.chat import render
from smolmake.posttrain.pieces import lost_pieces
from smolmake.posttrain.rows import to_conversation


def text_of(messages: list[dict[str, object]], **settings: object) -> str:
    return render(TEMPLATE, messages, settings)[0]


@pytest.mark.parametrize("name", GROUPS)
def test_the_texts_are_as_expected(name: str) -> None:
    """`python tests/helpers/rendered.py` writes them anew."""
    assert whole_file(GROUPS[name]()) == (FILES / name).read_text()


def test_thinking_is_the_default() -> None:
    messages, settings = next(iter(system_cases().values()))
    thinking = rendered((messages, settings | {"enable_thinking": True}))
    assert rendered((messages, settings | {"enable_thinking": None})) == thinking
    assert rendered((messages, {})) == thinking


@pytest.mark.parametrize(("label", "case"), [*system_cases().items(), *turn_cases().items()])
def test_nothing_is_lost_and_every_answer_is_learned(label: str, case: Case) -> None:
    messages, settings = case
    settings = {name: value for name, value in settings.items() if name not in ("prompt", "enable_thinking")}
    answers = sum(message["role"] == "assistant" for message in messages)
    if messages[-1]["role"] != "assistant":
        messages = [*messages, said("End")]
    text, spans = render(TEMPLATE, messages, dict(settings))
    learned = [text[start:end] for start, end in spans]
    assert len(spans) == answers + (messages is not case[0])
    assert all(each.startswith("<|im_start|>assistant\n") and each.endswith("<|im_end|>\n") for each in learned)
    assert text.startswith("<|im_start|>system\n") and text.count("<think>\n\n</think>") <= len(learned)
    if label.startswith("an open thought"):
        return
    row = to_conversation({"messages": [*messages], "chat_template_kwargs": settings})
    names = {name for name, _ in lost_pieces(row, text)}
    override = any("/system_override" in str(message["content"]).split() for message in messages[:1])
    tools = {name for name in ("tools", "xml_tools", "python_tools") if settings.get(name)}
    may = {"reasoning"} if "keep_reasoning" in settings else set()
    assert names == (tools if override and messages[0]["role"] == "system" else names & may)


@pytest.mark.parametrize(
    ("word", "stays"),
    [("design/thinking", True), ("/thinking", True), ("/think.", True), ("a/no_think", True), ("/THINK", True),
     ("/think", False), ("/no_think", False), ("/system_override", False)],
)  # fmt: skip
def test_a_flag_is_a_word_of_its_own(word: str, stays: bool) -> None:
    text = text_of([{"role": "system", "content": f"Be\n {word}\nkind."}, user("Hi"), said("Hello")])
    assert (word in text.split("## Custom Instructions")[-1]) == stays
    assert ("Reasoning Mode: /think" in text) == (word not in ("/no_think", "/system_override"))


def test_an_answer_with_a_thought_gets_no_second_one() -> None:
    for answer in (said("<think>\nA\n</think>\nB"), said("B", reasoning_content="A")):
        text = text_of([user("Hi"), answer], enable_thinking=False)
        assert text.count("<think>") == 1 == text.count("</think>")
    assert text_of([user("Hi"), said("A word on <think>.")], enable_thinking=False).count("<think>") == 2


def test_without_a_date_it_is_todays() -> None:
    plain = render_jinja_template([[user("Hi")]], chat_template=TEMPLATE)[0][0]
    assert "Today Date: " in plain and "Today Date: 01 July 2025" not in plain
    assert "Today Date: 02 May 2024" in text_of([user("Hi")], date_string="02 May 2024")
