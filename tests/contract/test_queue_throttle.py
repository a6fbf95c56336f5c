"""A link that nobody calls for a while: told by one worker, brought to all by their claims."""

from __future__ import annotations

import pytest

from conserver.queue import keys, limits
from tests.queues import Consumer, Queue


@pytest.fixture
def one(queue: Queue) -> Consumer:
    """A consumer."""
    return Consumer(queue)


def throttle(queue: Queue, link: str, for_s: float) -> None:
    assert queue.run(limits.throttle(link, int(for_s * 1000))) == 1


def throttled(one: Consumer) -> dict[str, float]:
    """What the next claim brings."""
    return dict(one.claim().throttled)


def test_a_claim_brings_what_is_throttled(queue: Queue, one: Consumer) -> None:
    assert throttled(one) == {}
    throttle(queue, "ask a model", 60)
    throttle(queue, "hook", 30)
    found = throttled(one)
    assert found.keys() == {"ask a model", "hook"}
    assert 50 < found["ask a model"] <= 60
    assert 20 < found["hook"] <= 30
    assert throttled(Consumer(queue, "c2")).keys() == found.keys()


def test_items_come_as_without(queue: Queue, one: Consumer) -> None:
    throttle(queue, "hook", 30)
    queue.supply("q", "u1")
    claim = one.claim()
    assert [item.payload for item in claim.items] == [b"u1"]
    assert dict(claim.throttled).keys() == {"hook"}


def test_the_longer_of_two_times_holds(queue: Queue, one: Consumer) -> None:
    throttle(queue, "hook", 60)
    throttle(queue, "hook", 1)
    assert throttled(one)["hook"] > 50
    throttle(queue, "hook", 120)
    assert throttled(one)["hook"] > 100


def test_nothing_is_left_once_the_time_is_over(queue: Queue, one: Consumer) -> None:
    queue.client.hset(keys.CONTROL, "throttled", "1000 hook\n2000 ask")
    assert throttled(one) == {}
    assert not queue.client.exists(keys.CONTROL)


def test_times_that_are_over_go_with_the_next_one(queue: Queue) -> None:
    queue.client.hset(keys.CONTROL, "throttled", "1000 hook\n2000 ask")
    throttle(queue, "ask", 60)
    [line] = queue.client.hget(keys.CONTROL, "throttled").decode().splitlines()
    assert line.endswith(" ask")


def test_a_pause_is_kept(queue: Queue, one: Consumer) -> None:
    queue.client.hset(keys.CONTROL, keys.paused("q"), "1")
    throttle(queue, "hook", 60)
    queue.supply("q", "u1")
    claim = one.claim()
    assert claim.items == []
    assert dict(claim.throttled).keys() == {"hook"}
    queue.client.hset(keys.CONTROL, "throttled", "1000 hook")
    assert throttled(one) == {}
    assert queue.client.hkeys(keys.CONTROL) == [b"paused:q"]


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_key_of_another_type_is_named(queue: Queue) -> None:
    queue.make_key(keys.CONTROL, "list")
    answer = queue.run(limits.throttle("hook", 1000))
    assert answer == [b"type", keys.CONTROL.encode(), b"list"]
