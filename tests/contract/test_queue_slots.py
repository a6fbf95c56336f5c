"""Slots of a rate: one number in Redis that all workers share."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conserver.queue import limits
from tests.queues import Queue

NOW_US = 1_790_000_000_000_000
SECOND_US = 1_000_000


def slots(
    queue: Queue, wanted: int = 1, *, per_s: float = 1, burst: int = 1, **rest: int
) -> list[int]:
    """How many us away the next slots are."""
    call = limits.slots("link:asr", SECOND_US / per_s, burst, wanted, **{"now_us": NOW_US, **rest})
    return [int(wait) for wait in queue.run(call)]


def test_slots_are_one_interval_apart(queue: Queue) -> None:
    assert slots(queue, 3) == [0, SECOND_US, 2 * SECOND_US]
    assert slots(queue, 2) == [3 * SECOND_US, 4 * SECOND_US]
    assert slots(queue, now_us=NOW_US + 10 * SECOND_US) == [0]


def test_after_a_pause_a_burst_begins_at_once(queue: Queue) -> None:
    assert slots(queue, 5, burst=3) == [0, 0, 0, SECOND_US, 2 * SECOND_US]
    # Two seconds later two slots have come back, and three more are taken: none is free.
    assert slots(queue, 2, burst=3, now_us=NOW_US + 2 * SECOND_US) == [SECOND_US, 2 * SECOND_US]
    later_us = NOW_US + 60 * SECOND_US
    assert slots(queue, 4, burst=3, now_us=later_us) == [0, 0, 0, SECOND_US]


def test_nobody_gets_a_slot_while_a_server_wants_none(queue: Queue) -> None:
    assert slots(queue, 0, burst=5, none_for_us=30 * SECOND_US) == []
    assert slots(queue, 2, burst=5) == [30 * SECOND_US, 31 * SECOND_US]


def test_slots_that_are_too_far_away_are_not_given(queue: Queue) -> None:
    """In their place is when to ask again: before the slots behind the given ones pass unused."""
    far = {"farthest_us": 2 * SECOND_US}
    assert slots(queue, 5, **far) == [at * SECOND_US for at in (0, 1, 2, -2, -3)]
    later_us = NOW_US + 2 * SECOND_US
    assert slots(queue, 3, now_us=later_us, **far) == [at * SECOND_US for at in (1, 2, -2)]


def test_a_shorter_pause_does_not_end_a_longer_one(queue: Queue) -> None:
    slots(queue, 0, none_for_us=30 * SECOND_US)
    slots(queue, 0, none_for_us=SECOND_US)
    assert slots(queue) == [30 * SECOND_US]


def test_a_rate_that_is_not_used_leaves_nothing(queue: Queue) -> None:
    slots(queue, per_s=0.01, now_us=0)
    assert 0 < queue.client.pttl("conserver:rate:link:asr") <= 200_000


@pytest.mark.parametrize("kind", ["list", "hash"])
def test_a_key_of_another_type_is_named(queue: Queue, kind: str) -> None:
    queue.make_key("conserver:rate:link:asr", kind)
    answer = queue.run(limits.slots("link:asr", SECOND_US, 1, 2))
    assert answer == [b"type", b"conserver:rate:link:asr", kind.encode()]


def test_text_that_is_no_number_is_replaced(queue: Queue) -> None:
    queue.client.set("conserver:rate:link:asr", "someone else's")
    assert slots(queue) == [0]


@given(
    per_min=st.integers(1, 6000),
    burst=st.integers(1, 50),
    asked=st.lists(st.tuples(st.integers(0, 20_000_000), st.integers(1, 20)), max_size=30),
)
def test_no_window_has_more_than_the_rate_and_the_burst(
    per_min: int, burst: int, asked: list[tuple[int, int]]
) -> None:
    """Whoever asks when: the slots of any window are bounded, and none is further than need be."""
    fake = pytest.importorskip("fakeredis").FakeRedis()
    fake.flushall()
    queue, interval_us, now_us = Queue(fake), 60 * SECOND_US / per_min, NOW_US
    times: list[float] = []
    for passed_us, wanted in asked:
        now_us += passed_us
        waits = slots(queue, wanted, per_s=per_min / 60, burst=burst, now_us=now_us)
        times += [now_us + wait_us for wait_us in waits]
    assert all(before <= after for before, after in pairwise(times))
    for first in range(len(times)):
        for last in range(first, len(times)):
            window_us = times[last] - times[first]
            # One us is lost where a time is rounded.
            assert last - first + 1 <= window_us / interval_us + burst + 0.01 * burst + 1e-3
