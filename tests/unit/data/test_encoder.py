"""The fast encoder gives the ids of the reference on anything, and the reference takes over where it would not."""

import json
import random
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers

from smolmake.data.encoder import (
    NOT_INSTALLED,
    ODD_TEXTS,
    REFERENCE,
    CheckedEncoder,
    Encoder,
    Ids,
    Mismatch,
    ReferenceEncoder,
    first_difference,
    make_encoder,
)
from smolmake.data.token_shards import write_shards
from smolmake.data.tokenizer import SPECIAL_TOKENS, train_bpe

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from tokenizer_shapes import SHAPES, train

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


@cache
def of_shape(shape: str) -> Tokenizer:
    return train(SHAPES[shape], SCRIPTS * 20, 1200)


def reference_of(tokenizer: Tokenizer, special: bool = False) -> Encoder:
    return make_encoder(tokenizer, special, slow_because="asked for")


def check(tokenizer: Tokenizer, texts: list[str], special: bool = False) -> None:
    """Assert that the fast encoder is in use and gives the reference's ids."""
    fast, reference = make_encoder(tokenizer, special), reference_of(tokenizer, special)
    assert (fast.name, reference.name) == ("tokenizers 1.0.0-rc.3", REFERENCE) and not fast.slow_because
    assert first_difference(fast, reference, texts) is None
    assert len(fast.encode(texts)) == len(texts)


FAST_SHAPES = [shape for shape in SHAPES if shape != "deepseek3"]  # its patterns: see below
PIECES = [
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
    "▁",
    "Ab",
    "/",
]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("shape", FAST_SHAPES)
def test_the_shards_of_every_shape_are_those_of_the_reference(shape: str, special: bool, tmp_path: Path) -> None:
    tokenizer, rng = of_shape(shape), random.Random(0)
    pieces = [*PIECES, *SHAPES[shape].special]
    mixed = ["".join(rng.choices(pieces, k=rng.randrange(30))) for _ in range(1500)]
    texts = [*SCRIPTS, *ODD_TEXTS, "".join(SCRIPTS), *(chr(byte) for byte in range(256)), *mixed]
    check(tokenizer, texts, special)
    facts = []
    for name, encoder in (("fast", make_encoder(tokenizer, special)), ("slow", reference_of(tokenizer, special))):
        (tmp_path / name).mkdir()
        facts.append(write_shards(tmp_path / name, texts, tokenizer, encoder))
    assert facts[0] == facts[1] and facts[0]["documents"] == len(texts)
    for file in ("tokens.bin", "offsets.npy"):
        assert (tmp_path / "fast" / file).read_bytes() == (tmp_path / "slow" / file).read_bytes()


@pytest.mark.parametrize("shape", FAST_SHAPES)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=6))
def test_any_texts_in_every_shape(shape: str, texts: list[str]) -> None:
    fast, reference = encoders(of_shape(shape))
    assert first_difference(fast, reference, texts) is None


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip"])
def test_normalisers(form: str) -> None:
    tokenizer = Tokenizer.from_str(of_shape("smollm2").to_str())
    tokenizer.normalizer = getattr(normalizers, form)()
    texts = [*SCRIPTS, *ODD_TEXTS, "Ａﬁ① ｶﾞ 각 é e\u0301 Å"]
    fast, reference = make_encoder(tokenizer), reference_of(tokenizer)
    assert first_difference(fast, reference, texts) is None


def test_added_tokens() -> None:
    tokenizer = Tokenizer.from_str(of_shape("llama3").to_str())
    tokenizer.add_tokens(
        [AddedToken("<tool>", normalized=False), AddedToken("fox"), AddedToken("zzz", single_word=True)]
    )
    tokenizer.add_tokens([AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True)])
    tokenizer.add_special_tokens([AddedToken("<|pad|>")])
    texts = ["a <tool> fox foxes zzz zzzz  <left>  b  <right>  c<|pad|>d", *SCRIPTS]
    for special in (False, True):
        assert first_difference(make_encoder(tokenizer, special), reference_of(tokenizer, special), texts) is None


def test_a_pattern_that_the_fast_encoder_does_not_know_is_said_to_be_slow() -> None:
    encoder = make_encoder(of_shape("deepseek3"))
    assert encoder.name == REFERENCE and "Split" in encoder.slow_because
    assert first_difference(encoder, reference_of(of_shape("deepseek3")), SCRIPTS) is None


@cache
def encoders_of(described: str) -> tuple[Encoder, Encoder]:
    tokenizer = Tokenizer.from_str(described)
    return make_encoder(tokenizer), reference_of(tokenizer)


def encoders(tokenizer: Tokenizer) -> tuple[Encoder, Encoder]:
    return encoders_of(tokenizer.to_str())


@pytest.mark.parametrize("special", [False, True])
def test_special_tokens_are_text_unless_asked(tokenizer: Tokenizer, special: bool) -> None:
    text = "a" + "".join(SPECIAL_TOKENS) + "b"
    check(tokenizer, [text, SPECIAL_TOKENS[0] * 50], special)
    (ids,) = make_encoder(tokenizer, special).encode([text])
    assert set(ids.tolist()).isdisjoint({0, 1, 2}) is not special


def test_nothing_and_empty_texts(tokenizer: Tokenizer) -> None:
    for encoder in encoders(tokenizer):
        for texts in ([], [""], ["", "", ""]):
            assert [len(ids) for ids in encoder.encode(texts)] == [0] * len(texts)


def test_half_of_a_surrogate_pair_is_an_error_of_both(tokenizer: Tokenizer) -> None:
    for encoder in encoders(tokenizer):
        with pytest.raises(UnicodeEncodeError):
            encoder.encode(["good", "bad \ud800 text"])


def test_truncation_and_padding_of_the_file_are_not_applied(tokenizer: Tokenizer) -> None:
    cut = Tokenizer.from_str(tokenizer.to_str())
    cut.enable_truncation(5)
    cut.enable_padding(length=100)
    for encoder in encoders(cut):
        (ids,) = encoder.encode([SCRIPTS[0]])
        assert ids.tolist() == tokenizer.encode(SCRIPTS[0]).ids and len(ids) not in (5, 100)


def test_a_long_document(tokenizer: Tokenizer) -> None:
    check(tokenizer, ["\n".join(SCRIPTS) * 300, "word " * 100_000])


class Wrong:
    """An encoder that is wrong about some texts."""

    name, slow_because = "wrong", ""

    def __init__(self, right: Encoder, about: str) -> None:
        self.right, self.about = right, about

    def encode(self, texts: list[str]) -> list[Ids]:
        wrong = any(self.about in text for text in texts)
        return [ids + 1 if wrong else ids for ids in self.right.encode(texts)]


def test_a_wrong_encoder_is_found_before_the_first_document(tokenizer: Tokenizer) -> None:
    right = reference_of(tokenizer)
    made = make_encoder(tokenizer, load=lambda description, special: Wrong(right, "🦉"))
    assert made.name == REFERENCE and "gives other ids on" in made.slow_because
    made = make_encoder(tokenizer, sample=["all is well", "xyzzy"], load=lambda *_: Wrong(right, "xyzzy"))
    assert made.name == REFERENCE and "gives other ids on" in made.slow_because
    assert make_encoder(tokenizer, sample=["all is well"], load=lambda *_: Wrong(right, "xyzzy")).name == "wrong"


def test_a_python_without_the_fast_encoder(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers_next", None)
    made = make_encoder(tokenizer)
    assert (made.name, made.slow_because) == (REFERENCE, NOT_INSTALLED)
    assert first_difference(made, reference_of(tokenizer), SCRIPTS) is None


def test_a_tokenizer_of_another_kind() -> None:
    described = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "##b": 2}},
    }  # fmt: skip
    encoder = make_encoder(Tokenizer.from_str(json.dumps(described)))
    assert encoder.encode(["ab A"])[0].tolist() == [1, 2, 1]


def test_a_difference_on_the_way_stops_it(tokenizer: Tokenizer) -> None:
    right = reference_of(tokenizer)
    checked = CheckedEncoder(Wrong(right, "rare"), right, every=10)
    texts = [f"text {number}" for number in range(25)]
    for first in range(0, 25, 5):
        assert first_difference(checked, right, texts[first : first + 5]) is None
    checked.encode(["a", "rare", "b", "c", "d"])  # numbers 25 to 29: none of them is checked
    with pytest.raises(Mismatch, match="rare"):
        checked.encode(["a rare one"])


def test_the_reference_works_in_batches_of_bounded_size(tokenizer: Tokenizer) -> None:
    texts = SCRIPTS + ["", "x" * 500, ""]
    assert first_difference(ReferenceEncoder(tokenizer), ReferenceEncoder(tokenizer, batch=50), texts) is None
