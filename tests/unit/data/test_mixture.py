"""A mixture keeps its shares at every prefix, and its sample at a position is a function of the position alone."""

import random
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.mixtures import LENGTH, Weights, mixture_of
from helpers.shards import cut
from helpers.shards import shards_of as make_shards
from hypothesis import given, settings
from hypothesis import strategies as st

from smolmake.data.loader import BatchReader
from smolmake.data.mixture import Mixture, build_pattern, make_mixture, period_for, slot_counts
from smolmake.data.token_shards import Shards, Tokens


def normalised(weights: list[float]) -> Weights:
    return {f"s{i}": weight / sum(weights) for i, weight in enumerate(weights)}


def shards_of(sequences: dict[str, int]) -> dict[str, Shards]:
    """Shards whose tokens say where they are; each document is 5 tokens long."""
    made = {}
    for number, (name, count) in enumerate(sorted(sequences.items())):
        size = count * LENGTH + 1
        tokens = np.arange(size, dtype=np.uint32) + 100_000 * number
        made[name] = make_shards(tokens, np.append(np.arange(0, size, 5), size))
    return made


def sample(mixture: Mixture, shards: dict[str, Shards], position: int) -> tuple[Tokens, Tokens]:
    """Tokens and document numbers at a position of the stage."""
    place = mixture.place(position, {name: shards[name].sequences(LENGTH) for name in mixture.names})
    return cut(shards[place.source], place.sequence, LENGTH)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=8))
def test_every_prefix_is_within_one_of_the_share(weights: list[float]) -> None:
    counts = list(slot_counts(normalised(weights), 2048).values())
    pattern = build_pattern(counts)
    assert np.array_equal(np.bincount(pattern, minlength=len(counts)), counts)
    slots = np.arange(1, len(pattern) + 1)
    for source, count in enumerate(counts):
        error = np.cumsum(pattern == source) - slots * count / len(pattern)
        assert np.abs(error).max() < 1


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=12), st.sampled_from([1024, 4096]))
def test_slots_sum_to_the_period_and_none_is_empty(weights: list[float], period: int) -> None:
    counts = slot_counts(normalised(weights), period)
    assert sum(counts.values()) == period and min(counts.values()) >= 1
    if min(normalised(weights).values()) * period > 1:
        for name, weight in normalised(weights).items():
            assert abs(counts[name] - weight * period) <= 1


@pytest.mark.parametrize("rarest", [0.5, 0.01, 1e-4])
def test_the_period_gives_the_rarest_source_its_share_within_a_hundredth(rarest: float) -> None:
    weights = {"rare": rarest, "rest": 1 - rarest}
    period = period_for(weights)
    assert abs(slot_counts(weights, period)["rare"] / period / rarest - 1) < 0.01


def test_every_epoch_draws_every_sequence_once_in_another_order() -> None:
    mixture = mixture_of({"a": 0.7, "b": 0.3})
    available = {"a": 50, "b": 9}
    drawn: dict[tuple[str, int], list[int]] = {}
    for position in range(400):
        place = mixture.place(position, available)
        drawn.setdefault((place.source, place.epoch), []).append(place.sequence)
    for epoch in range(5):
        assert sorted(drawn["a", epoch]) == list(range(50))
        assert sorted(drawn["b", epoch]) == list(range(9))
    assert len({tuple(drawn["a", epoch]) for epoch in range(5)}) == 5


def test_draws_before_is_what_counting_gives() -> None:
    mixture = mixture_of({"a": 0.61, "b": 0.3, "c": 0.09})
    counted: Counter[str] = Counter()
    for position in range(3000):
        if position % 37 == 0:
            assert mixture.draws_before(position) == {name: counted[name] for name in mixture.names}
        counted[mixture.place(position, {"a": 7, "b": 7, "c": 7}).source] += 1


def test_a_later_stage_goes_on_where_the_earlier_one_stopped() -> None:
    first = mixture_of({"a": 0.5, "b": 0.5})
    available = {"a": 64, "b": 64}
    seen = [first.place(position, available).sequence for position in range(64)]
    drawn = first.draws_before(64)
    names = {"sources": {n: {"first": drawn[n]} for n in "ab"}, "sequence_length": 8, "seed": 0, "label": "pretraining"}
    second = make_mixture(names, build_pattern([256, 768]))
    places = [second.place(position, available) for position in range(40)]
    assert {p.sequence for p in places if p.source == "b" and p.epoch == 0}.isdisjoint(
        first.place(position, available).sequence
        for position in range(64)
        if first.place(position, available).source == "b"
    )
    assert len(seen) == 64


def test_a_sample_depends_on_nothing_but_its_arguments() -> None:
    available = {"a": 40, "b": 11}
    once = {p: sample(mixture_of({"a": 0.8, "b": 0.2}), shards_of(available), p) for p in range(100)}
    order = list(range(100)) * 2
    random.Random(1).shuffle(order)
    mixture, shards = mixture_of({"a": 0.8, "b": 0.2}), shards_of(available)
    for position in order:
        for part, expected in zip(sample(mixture, shards, position), once[position], strict=True):
            assert np.array_equal(part, expected)


def test_seed_and_label_change_the_order() -> None:
    orders = set()
    for mixture in (mixture_of({"a": 1.0}), mixture_of({"a": 1.0}, seed=1), mixture_of({"a": 1.0}, label="lc1")):
        orders.add(tuple(mixture.place(position, {"a": 64}).sequence for position in range(64)))
    assert len(orders) == 3


@pytest.mark.parametrize("split", [1, 2, 4])
def test_the_global_batch_is_the_samples_of_its_positions(split: int, tmp_path: Path) -> None:
    mixture, shards = mixture_of({"a": 0.5, "b": 0.5}), shards_of({"a": 40, "b": 40})
    batch = 8 // split
    rows = [BatchReader(mixture, shards, batch, 0).batch(step)[0] for step in range(3 * split)]
    assert np.array_equal(
        np.concatenate(rows), np.concatenate([BatchReader(mixture, shards, 8, 0).batch(s)[0] for s in range(3)])
    )
    late = BatchReader(mixture, shards, 8, stage_start=100)
    assert np.array_equal(late.batch(101)[0], BatchReader(mixture, shards, 8, 0).batch(1)[0])


def test_labels_are_the_next_tokens_and_masked_where_a_document_begins() -> None:
    mixture, shards = mixture_of({"a": 1.0}), shards_of({"a": 40})
    inputs, labels, documents = BatchReader(mixture, shards, 4, 0).batch(0)
    assert inputs.shape == labels.shape == documents.shape == (4, LENGTH)
    for row, targets in zip(inputs, labels, strict=True):
        for token, target in zip(row, targets, strict=True):
            # Documents begin at every fifth token of this stream, and tokens count up.
            assert target == (-100 if (token + 1) % 5 == 0 else token + 1)


NAMES = ["a", "b", "c"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3),
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
    st.integers(0, 60),
    st.integers(0, 3000),
)
def test_places_and_positions_are_inverse(weights: list[float], counts: list[int], first: int, start: int) -> None:
    total = sum(weights)
    mixture = mixture_of({n: w / total for n, w in zip(NAMES, weights, strict=True)}, first=first)
    available = dict(zip(NAMES, counts, strict=True))
    places = mixture.places(np.arange(start, start + 50), available)
    for offset in range(0, 50, 7):
        position = start + offset
        name = NAMES[places.source[offset]]
        place = mixture.place(position, available)
        assert (place.source, place.draw, place.epoch, place.sequence) == (
            name, places.draw[offset], places.epoch[offset], places.sequence[offset]
        )  # fmt: skip
        found = mixture.positions(name, place.sequence, available[name], position + 1)
        assert found[-1] == position and found == sorted(set(found))
        assert {mixture.place(other, available).sequence for other in found} == {place.sequence}


def test_every_sequence_is_drawn_once_an_epoch_at_the_positions_told() -> None:
    mixture, available = mixture_of({"a": 0.6, "b": 0.3, "c": 0.1}, first=5), {"a": 31, "b": 9, "c": 4}
    drawn: dict[tuple[str, int], list[int]] = {}
    for position in range(700):
        place = mixture.place(position, available)
        drawn.setdefault((place.source, place.sequence), []).append(position)
    for (name, sequence), positions in drawn.items():
        assert mixture.positions(name, sequence, available[name], 700) == positions


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(0, 50))
def test_any_world_size_reads_the_same_rows(step: int, devices: int, first_step: int) -> None:
    reader = BatchReader(mixture_of({"a": 0.7, "b": 0.3}), shards_of({"a": 40, "b": 11}), 12, first_step)
    whole = reader.batch(first_step + step)
    share = 12 // devices
    parts = [reader.batch(first_step + step, range(device * share, (device + 1) * share)) for device in range(devices)]
    for number in range(3):
        assert np.array_equal(whole[number], np.concatenate([part[number] for part in parts]))
    fresh = BatchReader(mixture_of({"a": 0.7, "b": 0.3}), shards_of({"a": 40, "b": 11}), 12, first_step)
    for number in range(3):
        assert np.array_equal(whole[number], fresh.batch(first_step + step)[number])


def test_the_stream_can_be_asked() -> None:
    """Where a row comes from and what it holds; which rows saw a document."""
    available = {"a": 40, "b": 11}
    reader = BatchReader(mixture_of({"a": 0.7, "b": 0.3}), shards_of(available), 4, stage_start=10)
    steps, seen = 40, set()
    for step in range(10, 10 + steps):
        tokens, labels, _ = reader.batch(step)
        for row in range(4):
            place, documents = reader.place(step, row)
            offset = 100_000 * "ab".index(place.source)
            stream = np.append(tokens[row], labels[row][-1] if labels[row][-1] != -100 else tokens[row][-1] + 1)
            assert {int(token - offset) // 5 for token in stream} == set(documents)
            assert tokens[row][0] - offset == place.sequence * LENGTH
            seen |= {(place.source, document, step, row) for document in documents}
    for source, sequences in available.items():
        for document in range((sequences * LENGTH) // 5):
            told = {(source, document, *pair) for pair in reader.steps_of(source, document, 10 + steps)}
            assert told == {entry for entry in seen if entry[:2] == (source, document)}


def test_the_order_looks_random() -> None:
    """Neighbouring rows come from all over a source: as far apart and as little ordered as by chance."""
    reader = mixture_of({"a": 1.0})
    places = reader.places(np.arange(5000), {"a": 5000}).sequence
    assert sorted(places.tolist()) == list(range(5000))
    steps = np.diff(places)
    assert 0.32 < np.abs(steps).mean() / 5000 < 0.347  # a third, plus or minus four standard errors
    assert 0.47 < (steps > 0).mean() < 0.53
    assert abs(np.corrcoef(np.arange(5000), places)[0, 1]) < 0.06
    counts = np.histogram2d(np.arange(5000), places, bins=10)[0]
    assert ((counts - 50) ** 2 / 50).sum() < 150  # chi-square with 81 degrees of freedom: below 1e-5 by chance


@pytest.mark.parametrize("steps", [32_000, 3_200_000])
def test_a_long_run_needs_no_index(steps: int) -> None:
    reader = BatchReader(mixture_of({"a": 0.7, "b": 0.3}), shards_of({"a": 40, "b": 11}), 1024, 0)
    tracemalloc.start()
    reader.batch(0)
    reader.batch(steps - 1)
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()
