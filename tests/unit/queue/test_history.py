"""Points of the history as bytes, and rings of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conserver.queue import history
from conserver.queue.history import COARSE, FIELDS, FINE, POINT_BYTES

VALUES = st.one_of(st.none(), st.floats(0, 1e12))


@given(st.lists(VALUES, min_size=len(FIELDS), max_size=len(FIELDS)), st.integers(0, 2**32 - 1))
def test_a_point_comes_back_with_two_digits_at_least(
    values: list[float | None], number: int
) -> None:
    [found] = history.unpack(history.pack(number, values), number)
    assert found is not None
    for before, after in zip(values, found, strict=True):
        assert (before is None) == (after is None)
        if before is not None:
            assert after == pytest.approx(before, rel=1 / 256, abs=1e-37)


@pytest.mark.parametrize("value", [0, 1, 7, 128, 255, 256, 1024])
def test_small_numbers_come_back_as_they_were(value: int) -> None:
    raw = history.pack(5, [value] + [None] * 7)
    assert history.column(raw, 5, "waiting") == [value]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_known(value: float) -> None:
    assert history.column(history.pack(5, [value] + [None] * 7), 5, "waiting") == [None]


def test_a_point_of_an_earlier_round_is_not_there() -> None:
    raw = history.pack(5, [1] * 8) + history.pack(6 + FINE.points, [1] * 8)
    found = history.unpack(raw, 5)
    assert found[0] is not None
    assert found[1] is None


def test_ranges_wrap_at_the_end_of_a_ring() -> None:
    assert FINE.ranges(0, 9) == [(0, 10 * POINT_BYTES - 1)]
    last = FINE.points - 1
    assert FINE.ranges(last, last + 1) == [
        (last * POINT_BYTES, FINE.points * POINT_BYTES - 1),
        (0, POINT_BYTES - 1),
    ]
    assert FINE.ranges(3, 2 + FINE.points) == [
        (3 * POINT_BYTES, FINE.points * POINT_BYTES - 1),
        (0, 3 * POINT_BYTES - 1),
    ]


def test_a_list_takes_what_the_documentation_says() -> None:
    assert (FINE.points + COARSE.points) * POINT_BYTES == 253_440
    assert FINE.keep_s == 86_400
    assert COARSE.keep_s == 14 * 86_400


def test_many_points_become_one() -> None:
    one = (1.0, None, 3.0, None, 1.0, None, 1.0, 1.0)
    two = (3.0, None, 3.0, 5.0, None, None, 3.0, 9.0)
    assert history.mean_of([one, None, two]) == [2.0, None, 3.0, 5.0, 1.0, None, 2.0, 9.0]
    assert history.mean_of([]) == [None] * 8
