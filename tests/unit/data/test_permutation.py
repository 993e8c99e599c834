"""The keyed permutation is one: every position once, another order for another key and epoch."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolmake.data.permutation import permute


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 5000), key=st.text(max_size=20))
def test_it_is_a_bijection(size: int, key: str) -> None:
    assert sorted(permute(position, size, key) for position in range(size)) == list(range(size))


def test_epochs_and_seeds_have_other_orders() -> None:
    orders = {tuple(permute(p, 100, key) for p in range(100)) for key in ("0/a/x/0", "0/a/x/1", "1/a/x/0", "0/a/y/0")}
    assert len(orders) == 4


def test_it_mixes_near_and_far() -> None:
    # Neighbours land about size / 3 apart, as random places do.
    size = 4096
    places = [permute(position, size, "key") for position in range(size)]
    distance = sum(abs(a - b) for a, b in zip(places, places[1:], strict=False)) / (size - 1)
    assert 0.3 < distance / size < 0.37
    assert sum(place == position for position, place in enumerate(places)) < 10


def test_a_very_large_range_takes_no_table() -> None:
    size = 10**15
    places = {permute(position, size, "key") for position in (0, 1, size // 2, size - 1)}
    assert len(places) == 4 and all(0 <= place < size for place in places)


@pytest.mark.parametrize("position", [-1, 10, 11])
def test_a_position_outside_is_an_error(position: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        permute(position, 10, "key")
