"""The tokenizer gives every text back, splits digits, keeps special tokens out of data, and loads in transformers."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from smolmake.data.taken_tokenizer import take_tokenizer
from smolmake.data.tokenizer import (
    SPECIAL_TOKENS,
    load_tokenizer,
    splits_digits,
    tokenizer_config,
    train_bpe,
    training_texts,
)
from smolmake.data.tokenizer_comparison import analyse, digits_per_token, words_in
from smolmake.errors import UserError
from smolmake.graph.specs.data import TokenizerSpec

TEXTS = ["El perro come. Der Hund isst. The dog eats 12 bones in 2026. def main(): return 17 + 5\n"] * 30
ODD = [
    "",
    "\0",
    "a\0b",
    " ",
    "\n\n\t  \r\n",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "العربية עברית हिन्दी ไทย 中文 日本語 한국어 Ελληνικά Кириллица",
    "e\u0301 \u00e9 \ufeff\u200b\u202e",
    "\U0010ffff\ue000",
    "٣٤٥ ½ ² Ⅷ",
    "x" * 5000,
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(TEXTS, 300)


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_texts_come_back_whole(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back_whole(tokenizer: Tokenizer, text: str) -> None:
    tokenizer.encode_special_tokens = True
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_digits_are_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    assert splits_digits(tokenizer)
    for token in tokenizer.get_vocab():
        assert sum(character.isdigit() for character in token) <= 1, token
    assert [tokenizer.decode([i]) for i in tokenizer.encode("a2026b").ids if tokenizer.decode([i]).isdigit()] == list(
        "2026"
    )


def test_training_is_deterministic(tokenizer: Tokenizer) -> None:
    assert train_bpe(iter(TEXTS), 300).to_str() == tokenizer.to_str()
    assert tokenizer.get_vocab_size() == 300
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2]


def test_text_of_special_tokens_is_plain_text_when_asked(tokenizer: Tokenizer) -> None:
    text = "".join(SPECIAL_TOKENS)
    tokenizer.encode_special_tokens = True
    assert set(tokenizer.encode(text).ids).isdisjoint({0, 1, 2})
    tokenizer.encode_special_tokens = False
    assert tokenizer.encode(text).ids == [0, 1, 2]


def test_transformers_reads_it_alike(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(1024)))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token == "<|end_of_text|>" and theirs.eos_token_id == 0
    for text in ODD:
        assert theirs(text, add_special_tokens=False)["input_ids"] == load_tokenizer(tmp_path).encode(text).ids
        assert theirs.decode(theirs(text)["input_ids"]) == text


def test_every_source_has_a_like_say() -> None:
    assert list(training_texts([["abcdef", "gh", "ij"], ["x"], []], 7)) == ["abcdef", "g", "x"]


def test_analysis_counts_words_and_pieces() -> None:
    # "ab" is one token, with and without the space; "cd" is never merged.
    tokenizer = train_bpe([" ab" * 50 + "\nab" * 50], 264)
    measured = analyse(tokenizer, ["ab ab cd"])
    tokens = {piece: len(tokenizer.encode(piece).ids) for piece in ("ab", " ab", " cd")}
    assert measured["words"] == 3 and measured["documents"] == 1 and measured["bytes"] == 8
    assert measured["fertility"] == sum(tokens.values()) / 3
    assert measured["continued_words"] == sum(count > 1 for count in tokens.values()) / 3
    assert measured["bytes_per_token"] == 8 / len(tokenizer.encode("ab ab cd").ids)
    assert tokens[" ab"] == 1 and tokens[" cd"] == 3


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "Don't stop.\nNow!", ["Don", "t", " stop", "\nNow"]),
        ("zh", "今天天气很好，我们去公园散步。", ["今天", "天气", "很好", "我们", "去", "公园", "散步"]),
        ("ja", "茶色の狐は犬を飛び越える。", ["茶色", "の", "狐", "は", "犬", "を", "飛び越える"]),
        ("th_Thai", "ภาษาไทยไม่มี 3 คำ", ["ภาษา", "ไทย", "ไม่มี", "3", "คำ"]),
        ("zh-Hans", "好 GPT-2 。", ["好", "GPT", "2"]),
        ("python", "def f(x):", ["def", " f", "x"]),
    ],
)
def test_words_as_the_language_has_them(language: str, text: str, words: list[str]) -> None:
    assert words_in(text, language) == words


def test_digits_in_one_token(tokenizer: Tokenizer) -> None:
    assert digits_per_token(tokenizer) == 1
    described = json.loads(train_bpe(["1234567890 " * 50], 400).to_str())
    pattern = described["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    pattern["Regex"] = pattern["Regex"].replace(r"|\p{N}|", r"|\p{N}{1,3}|")
    described["model"]["merges"] += [["1", "2"], ["12", "3"]]
    described["model"]["vocab"] |= {"12": 500, "123": 501}
    assert digits_per_token(Tokenizer.from_str(json.dumps(described))) == 3


def test_a_tokenizer_that_exists_is_taken(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    tokenizer.save(str(tmp_path / "theirs" / "tokenizer.json"))
    take_tokenizer(TokenizerSpec(path=str(tmp_path / "theirs"), vocab_size=300), tmp_path / "ours")
    assert load_tokenizer(tmp_path / "ours").to_str() == tokenizer.to_str()
    assert json.loads((tmp_path / "ours" / "tokenizer_config.json").read_text())["eos_token"] == "<|end_of_text|>"
    for spec, what in (
        (TokenizerSpec(path=str(tmp_path / "theirs"), vocab_size=301), "another size"),
        (TokenizerSpec(path=str(tmp_path / "nowhere")), "no tokenizer that can be read"),
    ):
        with pytest.raises(UserError, match=what) as caught:
            take_tokenizer(spec, tmp_path / "ours")
        assert caught.value.remedy
