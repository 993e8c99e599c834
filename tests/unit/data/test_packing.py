"""Best-fit packing loses and doubles no token, cuts no document that fits, and is read as the stream is."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from helpers.mixtures import mixture_of
from helpers.models import decoder
from helpers.shards import made_of
from hypothesis import given, settings
from hypothesis import strategies as st

from smolmake.data import packing
from smolmake.data.loader import BatchReader
from smolmake.data.packing import PackedShards, best_fit, join_packings, pack_onto, pack_window
from smolmake.data.token_shards import Shards
from smolmake.execution.parts import part_folder
from smolmake.model.attention import block_mask, document_mask, document_starts
from smolmake.model.kernels import pack

LENGTH = 8
Lengths = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def packed(shards: Shards, length: int, folder: Path, window: int = 2**18) -> PackedShards:
    """Shards packed in windows of some documents, as the step does it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "WINDOW_DOCUMENTS", window)
        facts = []
        for number in range(packing.windows(shards)):
            part_folder(folder, number).mkdir(parents=True)
            facts.append(pack_window(shards, number, length, part_folder(folder, number)))
    whole = join_packings(facts, length)
    assert whole["tokens"] == shards.size and whole["documents"] == shards.documents
    assert whole["padding"] == pytest.approx(1 - shards.size / (whole["sequences"] * length), abs=1e-6)
    return pack_onto(shards, folder, whole)


def rows_of(shards: PackedShards, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every sequence once: inputs, labels and documents."""
    available = shards.sequences(length)
    mixture = mixture_of({"a": 1.0}, length=length)
    return BatchReader(mixture, {"a": shards}, available, 0).batch(0)


@settings(max_examples=80, deadline=None)
@given(Lengths, st.integers(1, 20), st.integers(1, 4), st.sampled_from([1, 5, 100]))
def test_an_epoch_has_every_token_once_and_cuts_nothing_that_fits(
    lengths: list[int], length: int, parts: int, window: int
) -> None:
    stream = made_of(lengths, parts)  # its tokens count up from 1
    borders = np.concatenate([[0], np.cumsum(lengths)])
    with TemporaryDirectory() as folder:
        inputs, labels, documents = rows_of(packed(stream, length, Path(folder), window), length)
    real = documents < len(lengths)
    assert sorted(inputs[real].tolist()) == list(range(1, stream.size + 1))
    assert (documents[real] == np.searchsorted(borders, inputs[real] - 1, "right") - 1).all()
    # Every token but a document's first is a target once, of the token before it; padding is none.
    targets = labels != -100
    assert sorted(labels[targets].tolist()) == sorted(set(range(1, stream.size + 1)) - set((borders[:-1] + 1).tolist()))
    assert (labels[targets] == inputs[targets] + 1).all() and real[targets].all()
    assert (inputs[~real] == stream.end_of_text).all()
    for row, own in zip(inputs, documents, strict=True):
        changes = np.flatnonzero(np.diff(own)) + 1
        assert len(changes) + 1 == len(set(own.tolist()))  # a document's tokens, and padding, stand together
        assert (np.diff(row)[(np.diff(own) == 0) & (own[1:] < len(lengths))] == 1).all()
    held = Counter(zip(np.nonzero(real)[0].tolist(), documents[real].tolist(), strict=True))
    sequences = Counter(document for _, document in held)
    assert all(sequences[d] == -(-size // length) for d, size in enumerate(lengths))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.data())
def test_pieces_go_where_least_room_holds_them(length: int, data: st.DataObject) -> None:
    sizes = np.array(data.draw(st.lists(st.integers(1, length), min_size=1, max_size=80)))
    rooms: list[int] = []
    for size in sorted(sizes.tolist(), reverse=True):
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else length) - size)
    found = best_fit(sizes, length)
    assert sorted((length - np.bincount(found, weights=sizes)).astype(int).tolist()) == sorted(rooms)
    assert np.array_equal(found, best_fit(sizes, length))


@settings(max_examples=30, deadline=None)
@given(Lengths, st.integers(0, 10**6), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_any_step_and_world_size_read_the_same_rows(lengths: list[int], step: int, devices: int) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir()
        (Path(folder) / "b").mkdir()
        both = {name: packed(made_of(lengths, 2), LENGTH, Path(folder) / name, 7) for name in "ab"}
        mixture = mixture_of({"a": 0.7, "b": 0.3})
        went_on = BatchReader(mixture, both, 12, 0)
        for earlier in range(max(0, step - 2), step):
            went_on.batch(earlier)
        share = 12 // devices
        parts = [
            BatchReader(mixture, both, 12, 0).batch(step, range(d * share, (d + 1) * share)) for d in range(devices)
        ]
        for number, whole in enumerate(went_on.batch(step)):
            assert np.array_equal(whole, np.concatenate([part[number] for part in parts]))


@settings(max_examples=30, deadline=None)
@given(Lengths, st.sampled_from([3, 100]))
def test_rows_and_documents_lead_to_each_other(lengths: list[int], window: int) -> None:
    with TemporaryDirectory() as folder:
        shards = packed(made_of(lengths, 3), LENGTH, Path(folder), window)
        reader = BatchReader(mixture_of({"a": 1.0}), {"a": shards}, 4, stage_start=10)
        seen = set()
        for step in range(10, 20):
            for row in range(4):
                held = reader.place(step, row)[1]
                assert set(reader.batch(step, range(row, row + 1))[2][0].tolist()) - {len(lengths) + 1} == set(held)
                seen |= {(document, step, row) for document in held}
        for document in range(len(lengths)):
            told = {(document, *pair) for pair in reader.steps_of("a", document, 20)}
            assert told == {entry for entry in seen if entry[0] == document}


LENGTHS = [5, 8, 3, 21, 1, 6, 8, 2, 7, 4]


def test_padded_sequences_give_the_loss_of_the_documents_alone(tmp_path: Path) -> None:
    model = decoder()
    rows = rows_of(packed(made_of(LENGTHS, 2), LENGTH, tmp_path), LENGTH)
    inputs, labels, documents = (torch.from_numpy(part) for part in rows)
    assert (documents == len(LENGTHS) + 1).any()
    together = model.loss(inputs, labels, documents)
    alone = torch.zeros(())
    first = 1
    for size in LENGTHS:
        document = torch.arange(first, first + size)[None]
        first += size
        for at in range(0, size, LENGTH):  # a longer one is cut, and its next token is still a target
            piece = document[:, at : at + LENGTH + 1]
            if piece.shape[1] > 1:
                alone = alone + model.loss(piece[:, :-1], piece[:, 1:])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_all_masks_keep_padding_apart(tmp_path: Path) -> None:
    documents = torch.from_numpy(rows_of(packed(made_of(LENGTHS, 2), LENGTH, tmp_path), LENGTH)[2])
    count, mask = documents.numel(), block_mask(documents)
    flat = torch.arange(count)
    blocks = mask.mask_mod(torch.tensor(0), torch.tensor(0), flat[:, None], flat[None, :])
    whole = torch.block_diag(*document_mask(documents)[:, 0]).bool()
    assert torch.equal(blocks, whole)
    starts = torch.unique(document_starts(documents)).tolist()
    assert pack(documents).starts.tolist()[: len(starts) + 1] == [*starts, count]


def test_a_source_without_documents_is_packed_to_nothing(tmp_path: Path) -> None:
    empty = Shards([], [], [], 0, np.dtype("<u2"))
    assert packing.windows(empty) == 0
    assert join_packings([], LENGTH) == {
        "length": LENGTH, "sequences": 0, "documents": 0, "tokens": 0, "cut_documents": 0, "padding": 0.0, "parts": []
    }  # fmt: skip
