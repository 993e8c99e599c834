"""Words are hashes that depend on how a text looks, and on nothing beside it."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from smolmake.data import ngrams as words_module
from smolmake.data.ngrams import units_of, words_of


@settings_of_hypothesis(deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.sampled_from([1, 2, 16]))
def test_hashes_of_words_do_not_depend_on_the_blocks_they_are_made_in(texts: list[str], block: int) -> None:
    whole = units_of(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words_module, "HASHED_AT_ONCE", block)
        words_module._powers.cache_clear()
        cut = units_of(texts)
    words_module._powers.cache_clear()
    for one, other in ((whole.words, cut.words), (whole.with_signs, cut.with_signs)):
        assert np.array_equal(one.hashes, other.hashes) and np.array_equal(one.offsets, other.offsets)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12,000 apples", "12000 apples"),
        ("It cost 1,234,567.", "it cost 1234567"),
        ("12\u202f000 12\u00a0000 12’000 12_000", "12000 12000 12000 12000"),
        ("１２，０００ ＡＢＣ", "12000 abc"),
        ("1\u200b2,\u200b000", "12000"),
        ("caf\u00e9 \u00c5ngstr\u00f6m", "cafe\u0301 \u212bngstro\u0308m"),
        (
            "soft\u00adhyphen zero\u200bwidth \u2060joined \ufeffmark \u202bright\u202c",
            "softhyphen zerowidth joined mark right",
        ),
        ("ﬁne eﬀect oﬃce", "fine effect office"),
        ("Straße ΟΔΟΣ", "STRASSE οδος"),
        ("𝐁𝐨𝐥𝐝 ⓐ ｶﾅ", "bold a カナ"),
    ],
)
def test_texts_that_look_alike_have_the_same_words(one: str, other: str) -> None:
    assert words_of([one]).hashes.tolist() == words_of([other]).hashes.tolist()
    beside = words_of(["before 1,000", one, other, "after"])
    parts = [beside.hashes[a:b].tolist() for a, b in itertools.pairwise(beside.offsets.tolist())]
    assert parts == [words_of([text]).hashes.tolist() for text in ("before 1000", other, one, "after")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12,00", "1200"),
        ("12,0000", "120000"),
        ("1.5", "15"),
        ("12 000", "12000"),
        ("a,000", "a000"),
        ("1,\n000", "1000"),
    ],
)
def test_other_signs_between_digits_part_words(one: str, other: str) -> None:
    assert words_of([one]).hashes.tolist() != words_of([other]).hashes.tolist()


def test_words_are_those_of_the_regular_expression() -> None:
    texts = ["", "Don't_stop me2, 4ever!", "déjà vu — ÜBER\u2028x", "a\nb", "_", "🦉 owl", "ﬁne Ⅷ ½"]
    found = words_of(texts)
    assert np.diff(found.offsets).tolist() == [len(re.findall(r"\w+", text.lower())) for text in texts]
    assert len(set(words_of(["same Same SAME, same."]).hashes.tolist())) == 1


@settings_of_hypothesis(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_the_hash_of_a_word_does_not_depend_on_its_place(texts: list[str]) -> None:
    together = words_of(texts)
    for number, text in enumerate(texts):
        alone = words_of([text])
        assert (
            together.hashes[together.offsets[number] : together.offsets[number + 1]].tolist() == alone.hashes.tolist()
        )
