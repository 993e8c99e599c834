"""What is lost of a row, and which rows are cut or dropped, is counted by source, told, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.models import write_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from smolmake.data.chat import ChatFormat, render
from smolmake.errors import UserError
from smolmake.graph.specs.data import PathDataset
from smolmake.graph.specs.posttrain import ConversationsSpec
from smolmake.posttrain.chat_data import NO_TARGET, Preparation, conversation_rows, pair_rows
from smolmake.posttrain.pieces import lost_pieces
from smolmake.posttrain.rows import to_conversation
from smolmake.posttrain.token_rows import TokenRows

U, A = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is four."}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}}
CALL = {"name": "add", "arguments": {"a": [1, 2.5, None, True], "b": 'a "word"\n'}}
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TRIMMING = CHATML.replace("{{ m.content }}", "{{ m.content | trim | replace('\\r', '') }}")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, ["What is 2 + 2? It is 4."])
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("template", "row", "lost"),
    [
        ("smollm3.jinja", {"messages": [U, A | {"tool_calls": [CALL]}, A], "tools": [TOOL]}, []),
        ("smollm3.jinja", {"messages": [U, A], "chat_template_kwargs": {"xml_tools": ['{"a": 1}'], "x": 1}}, []),
        ("smollm3.jinja", {"messages": [U, A], "chat_template_kwargs": {"mood": "happy", "custom_instructions": "B"}},
         ["mood"]),
        ("smollm3.jinja", {"messages": [U, A], "persona": "A pirate."}, ["persona"]),
        ("smollm3.jinja", {"messages": [U, A], "persona": " ", "custom_instructions": None}, []),
        ("smollm3-short.jinja", {"messages": [U, A], "tools": [TOOL]}, ["tools"]),
        ("smollm3-short.jinja", {"messages": [U, A], "chat_template_kwargs": {"xml_tools": ["{}"]}}, ["xml_tools"]),
        ("smollm3-short.jinja", {"messages": [{"role": "system", "content": "Be kind."}, U, A],
                                 "chat_template_kwargs": {"custom_instructions": "Be short."}},
         ["custom_instructions"]),
        ("smollm3-short.jinja", {"messages": [U, A | {"reasoning_content": "B"}]}, ["reasoning"]),
        ("smollm3-short.jinja", {"messages": [{"role": "system", "content": "/think Be /no_think kind."}, U, A]}, []),
        (CHATML, {"messages": [U, A | {"tool_calls": [CALL]}]}, ["tool_calls"]),
        (CHATML, {"messages": [U, A], "custom_instructions": "Be short."}, ["custom_instructions"]),
        (TRIMMING, {"messages": [U | {"content": "\n 2 + 2? \n"}, A]}, []),
        (TRIMMING, {"messages": [U | {"content": "2\r\n+ 2?"}, A]}, ["content"]),
        (CHATML.replace("messages %}", "messages[1:] %}"), {"messages": [A, U, A]}, ["content"]),  # the first of two
        (CHATML.replace("m.content", "m.content.split('</think>')[-1]"),
         {"messages": [U, A | {"content": "<think>B</think>four"}]}, ["reasoning"]),
    ],
)  # fmt: skip
def test_a_piece_that_is_not_in_the_text_is_lost(
    root: Path, template: str, row: dict[str, Any], lost: list[str]
) -> None:
    text = (root / "config/templates" / template).read_text() if template.endswith(".jinja") else template
    conversation = to_conversation(row)
    found = lost_pieces(conversation, render(text, conversation.messages, conversation.settings)[0])
    assert sorted({name for name, _ in found}) == lost


def spec(path: Path, rows: list[dict[str, Any]], **settings: Any) -> ConversationsSpec:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ConversationsSpec(files=PathDataset(path=str(path), format="auto", content=""), **settings)


def how(tokenizer: PreTrainedTokenizerBase, root: Path, max_length: int = 64, **settings: Any) -> Preparation:
    template = (root / "config" / "templates" / "smollm3-short.jinja").read_text()
    form = ChatFormat(tokenizer, template)
    return Preparation(form, settings.pop("section", "sft"), "smollm3-short.jinja", 0, max_length, **settings)


def test_lost_pieces_stop_the_step_unless_the_recipe_names_them(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"messages": [U, A], "tools": [TOOL]}
    rows = [{"messages": [U, A]}, row, row | {"chat_template_kwargs": {"python_tools": "add(a)"}}]
    good = spec(tmp_path / "good.jsonl", [{"messages": [U, A]}])
    with pytest.raises(UserError) as caught:
        conversation_rows({"a": good, "b": spec(tmp_path / "b.jsonl", rows)}, {}, how(tokenizer, root), tmp_path)
    error = caught.value
    assert "smollm3-short.jinja loses" in error.what and "tools of 2 rows" in error.what
    assert "python_tools of 1 row" in error.what
    assert error.key == "sft.data.b" and error.file == tmp_path / "b.jsonl" and not (tmp_path / "rows").exists()
    assert "may_lose: [" in error.remedy and "row " in error.value
    allowed = spec(tmp_path / "b.jsonl", rows, may_lose=["python_tools", "tools"])
    counts = conversation_rows({"a": good, "b": allowed}, {}, how(tokenizer, root), tmp_path).counts
    assert counts["b"].lost == {"tools": 2, "python_tools": 1} and counts["a"].lost == {}
    assert "2 rows lose tools" in capsys.readouterr().err


def targets(rows: TokenRows) -> list[list[int]]:
    return [[label for label in row["labels"] if label != NO_TARGET] for row in rows.data]


def test_rows_are_cut_and_dropped_by_number(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long, late = A | {"content": "four " * 40}, U | {"content": "2 + 2? " * 20}
    rows = [{"messages": [U, A]}, {"messages": [U, long]}, {"messages": [late, A]}, {"messages": [U]}]
    dataset = spec(tmp_path / "a.jsonl", rows, on_error="skip")
    found = conversation_rows({"a": dataset}, {}, how(tokenizer, root), tmp_path / "step")
    counts = found.counts["a"]
    assert (counts.rows, counts.skipped, counts.used) == (4, 1, 3)
    assert (counts.truncated, counts.without_targets, counts.trained) == (1, 1, 2)
    assert sorted(len(row["input_ids"]) for row in found.data)[-1] == 64
    assert counts.tokens == sum(len(row["input_ids"]) for row in found.data)
    assert counts.targets == sum(map(len, targets(found)))
    assert found.facts()["rows"] == 2 and found.facts()["sources"]["a"]["without_targets"] == 1
    told = capsys.readouterr().err
    assert "4 rows, 1 skipped (row 4: " in told and "1 without a target within max_length, 1 truncated" in told


def test_wrapped_packing_cuts_nothing(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    dataset = spec(tmp_path / "a.jsonl", [{"messages": [U, A | {"content": "four " * 40}]}])
    all_tokens = how(tokenizer, root, cuts=False, learn_all=True)
    found = conversation_rows({"a": dataset}, {}, all_tokens, tmp_path / "step")
    assert found.counts["a"].truncated == 0 and len(found.data[0]["input_ids"]) > 64
    assert found.data[0]["labels"] == found.data[0]["input_ids"]


def test_no_target_at_all_names_the_length_to_set(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path
) -> None:
    rows = [{"messages": [U | {"content": "2 + 2? " * count}, A]} for count in (20, 30, 40)]
    dataset = spec(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError) as caught:
        conversation_rows({"a": dataset}, {}, how(tokenizer, root), tmp_path / "step")
    assert caught.value.key == "sft.max_length" and caught.value.value == 64
    needed = int(caught.value.remedy.split(" at ")[1].split(" ")[0].replace(",", ""))
    for length, trained in ((needed - 1, None), (needed, 1)):
        if trained is None:
            with pytest.raises(UserError):
                conversation_rows({"a": dataset}, {}, how(tokenizer, root, length), tmp_path / "step")
        else:
            found = conversation_rows({"a": dataset}, {}, how(tokenizer, root, length), tmp_path / "step")
            assert found.counts["a"].trained == trained


def test_a_weight_of_0_leaves_an_answer_out(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    rows = [{"messages": [U, A | {"weight": 0}, U, A | {"content": "Five.", "weight": 1}]}]
    dataset = spec(tmp_path / "a.jsonl", rows)
    found = conversation_rows({"a": dataset}, {}, how(tokenizer, root, 512), tmp_path / "step")
    assert [tokenizer.decode(each) for each in targets(found)] == ["<|im_start|>assistant\nFive.<|im_end|>\n"]
    with pytest.raises(UserError, match="row 1: a message has the weight 0"):
        conversation_rows({"a": dataset}, {}, how(tokenizer, root, 512, learn_all=True), tmp_path / "all")


def test_a_template_without_marks_trains_no_answers(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path
) -> None:
    dataset, form = spec(tmp_path / "a.jsonl", [{"messages": [U, A]}]), ChatFormat(tokenizer, CHATML)
    with pytest.raises(UserError, match="does not mark") as caught:
        conversation_rows({"a": dataset}, {}, Preparation(form, "sft", "own.jinja", 0, 64), tmp_path / "step")
    assert caught.value.key == "sft.chat_template" and caught.value.value == "own.jinja"


def test_pairs_are_cut_and_dropped_by_number(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    other, late = A | {"content": "five " * 40}, U | {"content": "2 + 2? " * 20}
    rows = [
        {"chosen": [U, A], "rejected": [U, A | {"content": "Five."}]},
        {"chosen": [U, A], "rejected": [U, other]},
        {"chosen": [late, A], "rejected": [late, other]},
        {"chosen": [U, A], "rejected": [U, A]},
    ]
    dataset = spec(tmp_path / "a.jsonl", rows, on_error="skip")
    found = pair_rows({"a": dataset}, {}, how(tokenizer, root, section="apo"), tmp_path / "step")
    counts = found.counts["a"]
    assert (counts.rows, counts.skipped, counts.without_targets, counts.truncated, counts.trained) == (4, 1, 1, 1, 2)
    assert counts.first_skipped.startswith("row 4: `chosen` and `rejected` are the same")
    for row in found.data:
        assert tokenizer.decode(row["prompt_ids"]).endswith("<|im_start|>assistant\n")
        assert tokenizer.decode(row["chosen_ids"]) == "It is four.<|im_end|>\n"


def test_a_template_that_refuses_a_row_names_it(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    strict = CHATML.replace(
        "{% for", "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}{% for"
    )
    rows = [{"messages": [U, A]}, {"messages": [U, A, U, A]}]
    settings = Preparation(ChatFormat(tokenizer, strict), "mid_training", "own.jinja", 0, 64, learn_all=True)
    with pytest.raises(UserError, match="row 2: the chat template own.jinja refuses it: too long"):
        conversation_rows({"a": spec(tmp_path / "a.jsonl", rows)}, {}, settings, tmp_path / "step")
    skipping = spec(tmp_path / "a.jsonl", rows, on_error="skip")
    assert conversation_rows({"a": skipping}, {}, settings, tmp_path / "step").counts["a"].skipped == 1
