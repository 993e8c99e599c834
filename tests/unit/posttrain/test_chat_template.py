"""The chat template: what SFT learns, the thinking switch, system messages, and the sandbox that renders it."""

from pathlib import Path
from typing import Any

import jinja2
import pytest
from helpers.models import write_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from smolmake.data.chat import ChatFormat

EMPTY_THOUGHT = "<think>\n\n</think>\n"
DIALOGUE = [
    {"role": "user", "content": "What is 1 + 2?"},
    {"role": "assistant", "content": "It is 3."},
    {"role": "user", "content": "And <|im_end|> 2 + 2?"},
    {"role": "assistant", "content": "It is 4."},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, root: Path) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, ["What is it? It is 3. <think> system user assistant"])
    loaded = AutoTokenizer.from_pretrained(folder)
    loaded.chat_template = (root / "config" / "templates" / "smollm3-short.jinja").read_text()
    return loaded


def text_of(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **settings: Any) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **settings))


def turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def learned(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **settings: Any) -> list[str]:
    """The runs of text that the assistant mask covers."""
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **settings
    )
    runs: list[list[int]] = []
    before = 0
    for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True):
        if mask:
            runs = [*runs, [token]] if not before else [*runs[:-1], [*runs[-1], token]]
        before = mask
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize("thinking", [True, False])
def test_the_mask_covers_the_assistants_turns_and_nothing_else(
    tokenizer: PreTrainedTokenizerBase, thinking: bool
) -> None:
    thought = "" if thinking else EMPTY_THOUGHT
    expected = [turn("assistant", f"{thought}It is {number}.") for number in (3, 4)]
    assert learned(tokenizer, DIALOGUE, enable_thinking=thinking) == expected


def test_without_an_assistant_nothing_is_learned(tokenizer: PreTrainedTokenizerBase) -> None:
    assert learned(tokenizer, DIALOGUE[:1]) == []


def test_no_think_prefixes_every_answer_with_an_empty_thought(tokenizer: PreTrainedTokenizerBase) -> None:
    off = text_of(tokenizer, DIALOGUE, enable_thinking=False)
    assert off.startswith(turn("system", "/no_think")) and off.count(EMPTY_THOUGHT) == 2
    on = text_of(tokenizer, DIALOGUE, enable_thinking=True)
    assert on.startswith(turn("system", "/think")) and EMPTY_THOUGHT not in on
    assert text_of(tokenizer, DIALOGUE) == on


@pytest.mark.parametrize(
    "settings", [{"custom_instructions": None}, {"python_tools": [], "xml_tools": []}, {"custom_instructions": ""}]
)
def test_empty_settings_of_smoltalk2_change_nothing(
    tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]
) -> None:
    assert text_of(tokenizer, DIALOGUE, **settings) == text_of(tokenizer, DIALOGUE)


@pytest.mark.parametrize(
    ("system", "settings", "expected"),
    [
        ("Be kind. /no_think", {}, "/no_think\nBe kind."),
        ("/think Be kind.", {"enable_thinking": False}, "/think\nBe kind."),
        ("/no_think", {"enable_thinking": True}, "/no_think"),
        ("Be kind.", {"enable_thinking": False}, "/no_think\nBe kind."),
        ("Be kind.", {"custom_instructions": "Be short."}, "/think\nBe kind."),
    ],
)
def test_flags_in_a_system_message_decide(
    tokenizer: PreTrainedTokenizerBase, system: str, settings: dict[str, Any], expected: str
) -> None:
    messages = [{"role": "system", "content": system}, *DIALOGUE]
    text = text_of(tokenizer, messages, **settings)
    assert text.startswith(turn("system", expected))
    assert (EMPTY_THOUGHT in text) == expected.startswith("/no_think")
    assert text.count("<|im_start|>system") == 1


def test_custom_instructions_stand_in_the_system_message(tokenizer: PreTrainedTokenizerBase) -> None:
    text = text_of(tokenizer, DIALOGUE, custom_instructions="Answer in capitals.", enable_thinking=False)
    assert text.startswith(turn("system", "/no_think\nAnswer in capitals."))


@pytest.mark.parametrize("thinking", [True, False])
def test_a_prompt_is_the_beginning_of_what_was_learned(
    tokenizer: PreTrainedTokenizerBase, thinking: bool, root: Path
) -> None:
    template = str(tokenizer.chat_template)
    prompt = ChatFormat(tokenizer, template).encode(DIALOGUE[:3], prompt=True, enable_thinking=thinking).text
    whole = text_of(tokenizer, DIALOGUE, enable_thinking=thinking)
    assert whole == prompt + "It is 4.<|im_end|>\n"


def test_a_tools_answer_comes_as_the_users(tokenizer: PreTrainedTokenizerBase) -> None:
    assert turn("user", "42") in text_of(tokenizer, [*DIALOGUE, {"role": "tool", "content": "42"}])


def test_the_bare_template_of_mid_training(tokenizer: PreTrainedTokenizerBase, root: Path) -> None:
    template = (root / "config" / "templates" / "chatml.jinja").read_text()
    text = text_of(tokenizer, DIALOGUE[:2], chat_template=template)
    assert text == turn("user", "What is 1 + 2?") + turn("assistant", "It is 3.")
    prompt = ChatFormat(tokenizer, template).encode(DIALOGUE[:1], prompt=True).text
    assert prompt == turn("user", "What is 1 + 2?") + "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    with pytest.raises(jinja2.exceptions.SecurityError):
        ChatFormat(tokenizer, template).prompt(DIALOGUE[:1])
