"""The fast encoder gives the ids of the reference on anything, and the reference takes over where it would not."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from smolmake.data.encoder import (
    GROWTH_BEFORE_HUGE,
    GROWTH_LIMIT,
    ODD_TEXTS,
    CheckedEncoder,
    Encoder,
    FastEncoder,
    Ids,
    Mismatch,
    ReferenceEncoder,
    TokenCounts,
    first_difference,
    make_encoder,
)
from smolmake.data.tokenizer import SPECIAL_TOKENS, train_bpe

SCRIPTS = [
    "The quick brown fox jumps over the lazy dog. It's 3.14, isn't it?",
    "Der schnelle braune Fuchs springt über den faulen Hund. Straße, Ärger, größer.",
    "Быстрая коричневая лиса перепрыгивает через ленивую собаку.",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول.",
    "השועל החום המהיר קופץ מעל הכלב העצלן.",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है।",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
    "敏捷的棕色狐狸跳过了懒狗。",
    "素早い茶色の狐はのろまな犬を飛び越える。カタカナも。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "Քանի որ սա փորձ է։ ქართული ენა. አማርኛ ቋንቋ.",
    "def f(x: int) -> str:\n\treturn f'{x!r}'  # done\r\n",
    '$\\int_0^1 x^2\\,dx = \\frac{1}{3}$ and {"a": [1, 22, 333, 4444]}',
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(SCRIPTS * 20, 900)


def check(tokenizer: Tokenizer, texts: list[str], special: bool = False) -> None:
    """Assert that the fast encoder is in use and gives the reference's ids."""
    fast, reference = make_encoder(tokenizer, special), make_encoder(tokenizer, special, fast=False)
    assert (fast.name, reference.name) == ("gigatoken", "tokenizers")
    assert first_difference(fast, reference, texts) is None
    ids, counts = fast.encode(texts)
    assert len(counts) == len(texts) and counts.sum() == len(ids)


def test_many_scripts_and_odd_texts(tokenizer: Tokenizer) -> None:
    check(tokenizer, SCRIPTS + ODD_TEXTS + ["".join(SCRIPTS), *(chr(byte) for byte in range(256))])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=6))
def test_any_texts(tokenizer: Tokenizer, texts: list[str]) -> None:
    fast = encoders(tokenizer)
    assert first_difference(fast[0], fast[1], texts) is None


made: dict[int, tuple[Encoder, Encoder]] = {}


def encoders(tokenizer: Tokenizer) -> tuple[Encoder, Encoder]:
    return made.setdefault(id(tokenizer), (make_encoder(tokenizer), make_encoder(tokenizer, fast=False)))


def test_pieces_in_any_order(tokenizer: Tokenizer) -> None:
    pieces = [
        "'s",
        "'S",
        " ",
        "\n",
        "\r",
        "\t",
        "a",
        "é",
        "1",
        "²",
        "!",
        "ſ",
        "\u00a0",
        "漢",
        "🦉",
        "\u0301",
        *SPECIAL_TOKENS,
    ]
    rng = random.Random(0)
    check(tokenizer, ["".join(rng.choices(pieces, k=rng.randrange(30))) for _ in range(2000)])


@pytest.mark.parametrize("special", [False, True])
def test_special_tokens_are_text_unless_asked(tokenizer: Tokenizer, special: bool) -> None:
    text = "a" + "".join(SPECIAL_TOKENS) + "b"
    check(tokenizer, [text, SPECIAL_TOKENS[0] * 50], special)
    ids, _ = make_encoder(tokenizer, special).encode([text])
    assert set(ids.tolist()).isdisjoint({0, 1, 2}) is not special


def test_nothing_and_empty_texts(tokenizer: Tokenizer) -> None:
    for encoder in encoders(tokenizer):
        for texts in ([], [""], ["", "", ""]):
            ids, counts = encoder.encode(texts)
            assert len(ids) == 0 and counts.tolist() == [0] * len(texts)


def test_half_of_a_surrogate_pair_is_an_error_of_both(tokenizer: Tokenizer) -> None:
    for encoder in encoders(tokenizer):
        with pytest.raises(UnicodeEncodeError):
            encoder.encode(["good", "bad \ud800 text"])


def test_truncation_and_padding_of_the_file_are_not_applied(tokenizer: Tokenizer) -> None:
    cut = Tokenizer.from_str(tokenizer.to_str())
    cut.enable_truncation(5)
    cut.enable_padding(length=100)
    for fast in (True, False):
        ids, _ = make_encoder(cut, fast=fast).encode([SCRIPTS[0]])
        assert ids.tolist() == tokenizer.encode(SCRIPTS[0]).ids and len(ids) not in (5, 100)


def test_a_long_document(tokenizer: Tokenizer) -> None:
    check(tokenizer, ["\n".join(SCRIPTS) * 300, "word " * 100_000])


class Wrong:
    """An encoder that is wrong about some texts."""

    name = "wrong"

    def __init__(self, right: Encoder, about: str) -> None:
        self.right, self.about = right, about

    def encode(self, texts: list[str]) -> tuple[Ids, TokenCounts]:
        ids, counts = self.right.encode(texts)
        return (ids + 1 if any(self.about in text for text in texts) else ids), counts


def test_a_wrong_encoder_is_found_before_the_first_document(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    right = make_encoder(tokenizer, fast=False)
    assert make_encoder(tokenizer, load=lambda description: Wrong(right, "🦉")).name == "tokenizers"
    assert "differ" in capsys.readouterr().err


def test_a_tokenizer_that_the_fast_encoder_cannot_read(capsys: pytest.CaptureFixture[str]) -> None:
    described = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "##b": 2}},
    }  # fmt: skip
    encoder = make_encoder(Tokenizer.from_str(json.dumps(described)))
    assert encoder.name == "tokenizers" and encoder.encode(["ab A"])[0].tolist() == [1, 2, 1]
    assert "tokenizers does the work" in capsys.readouterr().err


def test_a_difference_on_the_way_stops_it(tokenizer: Tokenizer) -> None:
    right = make_encoder(tokenizer, fast=False)
    checked = CheckedEncoder(Wrong(right, "rare"), right, every=10)
    texts = [f"text {number}" for number in range(25)]
    for first in range(0, 25, 5):
        assert np.array_equal(checked.encode(texts[first : first + 5])[0], right.encode(texts[first : first + 5])[0])
    checked.encode(["a", "rare", "b", "c", "d"])  # numbers 25 to 29: none of them is checked
    with pytest.raises(Mismatch, match="rare"):
        checked.encode(["a rare one"])


def test_the_cache_is_given_up_when_it_grows(tokenizer: Tokenizer) -> None:
    size = [100]
    fast = FastEncoder(tokenizer.to_str(), huge=1000, resident=lambda: size[0])
    huge = SCRIPTS[0] * 20
    for grown, text, anew in (
        (GROWTH_LIMIT, SCRIPTS[0], False),
        (GROWTH_LIMIT + 1, SCRIPTS[0], True),
        (GROWTH_BEFORE_HUGE, huge, False),
        (GROWTH_BEFORE_HUGE + 1, huge, True),
    ):
        before, size[0] = fast.backend, fast.size_at_start + grown
        ids, _ = fast.encode([text])
        assert (fast.backend is not before) is anew
        assert np.array_equal(ids, tokenizer.encode(text).ids)


def test_the_reference_works_in_batches_of_bounded_size(tokenizer: Tokenizer) -> None:
    texts = SCRIPTS + ["", "x" * 500, ""]
    ids, counts = ReferenceEncoder(tokenizer).encode(texts)
    small_ids, small_counts = ReferenceEncoder(tokenizer, batch=50).encode(texts)
    assert np.array_equal(ids, small_ids) and np.array_equal(counts, small_counts)


def test_a_folder_of_a_model_of_another_kind(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Digits in groups of three, as Llama 3 has them: the pattern is part of the file, and both encoders follow it."""
    described = json.loads(tokenizer.to_str())
    pattern = described["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    pattern["Regex"] = pattern["Regex"].replace(r"|\p{N}|", r"|\p{N}{1,3}|")
    check(Tokenizer.from_str(json.dumps(described)), SCRIPTS + ODD_TEXTS + ["1", "12", "123", "1234", "1234567"])
