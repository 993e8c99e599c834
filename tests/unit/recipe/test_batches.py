"""A batch-size warm-up gives every sequence once, in order, however the run is cut into segments."""

import pytest

from smolmake.recipe.pretraining import Pretraining
from smolmake.recipe.schedule import BatchPiece, batch_at, batch_pieces, batches_within

WARMUP = [{"steps": 4, "global_batch_size": 2}, {"steps": 3, "global_batch_size": 4}]
PIECES = batch_pieces(
    Pretraining(
        sequence_length=8,
        global_batch_size=8,
        segment_steps=5,
        batch_warmup=WARMUP,
        schedule={"lr": 1.0},
        stages=[{"name": "a", "steps": 20, "mixture": {"x": 1}}],
    )  # fmt: skip
)


def test_the_batches_follow_each_other() -> None:
    position = 0
    for step in range(20):
        size, before = batch_at(PIECES, step)
        assert before == position and size == (2 if step < 4 else 4 if step < 7 else 8)
        position += size
    assert batch_at(PIECES, 20)[1] == 4 * 2 + 3 * 4 + 13 * 8


@pytest.mark.parametrize("cuts", [[0, 20], [0, 5, 10, 15, 20], [0, 4, 7, 20], [0, 3, 8, 9, 20]])
def test_segments_have_the_batches_of_the_whole_run(cuts: list[int]) -> None:
    for first, last in zip(cuts, cuts[1:], strict=False):
        pieces = batches_within(PIECES, first, last)
        assert pieces[0].start == first
        for step in range(first, last + 1):
            if step < last:
                assert batch_at(pieces, step) == batch_at(PIECES, step)
            else:
                assert batch_at(pieces, step)[1] == batch_at(PIECES, step)[1]


def test_a_segment_after_the_warm_up_holds_only_where_it_begins() -> None:
    assert batches_within(PIECES, 10, 15) == [BatchPiece(start=10, size=8, sequences_before=4 * 2 + 3 * 4 + 3 * 8)]
