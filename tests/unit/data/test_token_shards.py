"""Token shards hold every token of every document once, in the smallest type, and cuts cover the stream."""

from pathlib import Path

import numpy as np
import pytest
from helpers.shards import cut, made_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from smolmake.data.token_shards import ENCODED_DOCUMENTS, open_shards, token_type, write_shards
from smolmake.data.tokenizer import END_OF_TEXT, TURN_END, TURN_START, train_bpe


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(["the cat sat on the mat with another cat " * 20], 300)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 20), st.integers(1, 5))
def test_cuts_cover_the_stream_and_lose_no_token(lengths: list[int], length: int, parts: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    shards = made_of(lengths, parts)
    cuts = [cut(shards, number, length) for number in range(shards.sequences(length))]
    inputs = np.concatenate([tokens[:-1] for tokens, _ in cuts] or [np.zeros(0, int)])
    labels = np.concatenate([tokens[1:] for tokens, _ in cuts] or [np.zeros(0, int)])
    size = shards.size
    # Every token but the first is a label once; what is left over is filler at the end.
    assert np.array_equal(labels[: size - 1], np.arange(2, size + 1))
    assert np.array_equal(inputs[: size - 1], np.arange(1, size))
    assert (labels[size - 1 :] == 0).all() and len(labels) - (size - 1) < length
    for tokens, documents in cuts:
        assert len(tokens) == len(documents) == length + 1
        for token, document in zip(tokens, documents, strict=True):
            if token:
                assert offsets[document] < token <= offsets[document + 1]
        fillers = documents[tokens == 0]
        assert len(set(fillers)) == len(fillers) and (fillers >= len(lengths)).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 5))
def test_a_document_is_found_in_any_part(lengths: list[int], parts: int) -> None:
    shards = made_of(lengths, parts)
    for number in range(len(lengths)):
        assert shards.span(number) == (sum(lengths[:number]), sum(lengths[: number + 1]))


def test_documents_come_back_from_disk(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = ["the cat", "", "another mat 123", "\0", "🦉 сова", f"{END_OF_TEXT} in the text {TURN_START}{TURN_END}"]
    facts = write_shards(tmp_path, texts, tokenizer)
    shards = open_shards(tmp_path, facts)
    part = shards.part(0)
    end = tokenizer.token_to_id(END_OF_TEXT)
    assert facts["documents"] == len(texts) and facts["tokens"] == len(part.tokens) == part.offsets[-1]
    assert facts["bytes"] == sum(len(text.encode()) for text in texts)
    for number, text in enumerate(texts):
        *ids, last = part.tokens[part.offsets[number] : part.offsets[number + 1]].tolist()
        assert last == end and tokenizer.decode(ids, skip_special_tokens=False) == text
        # What looks like a special token in the data is plain text: only the border is one.
        assert {tokenizer.token_to_id(token) for token in (END_OF_TEXT, TURN_START, TURN_END)}.isdisjoint(ids)


@pytest.mark.parametrize(("vocabulary", "bits"), [(300, 16), (65_536, 16), (65_537, 32), (128_256, 32)])
def test_the_type_holds_every_id(vocabulary: int, bits: int) -> None:
    dtype = token_type(vocabulary)
    assert dtype.itemsize * 8 == bits
    assert int(np.array([vocabulary - 1]).astype(dtype)[0]) == vocabulary - 1


def test_a_source_without_documents_has_no_sequence(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shards = open_shards(tmp_path, write_shards(tmp_path, [], tokenizer))
    assert shards.sequences(8) == 0


def test_more_documents_than_a_batch_keep_their_order(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = [f"document {number}" for number in range(2 * ENCODED_DOCUMENTS + 5)]
    part = open_shards(tmp_path, write_shards(tmp_path, iter(texts), tokenizer)).part(0)
    for number in (0, ENCODED_DOCUMENTS - 1, ENCODED_DOCUMENTS, len(texts) - 1):
        ids = part.tokens[part.offsets[number] : part.offsets[number + 1] - 1].tolist()
        assert tokenizer.decode(ids) == texts[number]
