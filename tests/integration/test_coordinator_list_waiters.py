"""The bells: who is woken for a push, what moves, and what does not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from conserver.process import wakeup
from tests.coordination import House, house, stays
from tests.helpers import eventually


@pytest.fixture
def make(redis_url: str) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda **arguments: stack.enter_context(house(redis_url, **arguments))


def all_idle(home: House, list_waiters: int = 1) -> None:
    for straw in home.workers:
        straw.say(wakeup.IDLE)
    eventually(lambda: len(home.waiting()) == list_waiters)


def test_one_push_wakes_one_of_several_idle_workers_which_finds_the_item(make: Any) -> None:
    home = make(workers=4).start()
    all_idle(home)
    for number in range(20):
        home.redis.rpush("q", f"uuid-{number}")
        rung = eventually(lambda: [s for s in home.workers if s.hears(0)])
        assert len(rung) == 1
        (item,) = rung[0].claim()
        assert item.payload == f"uuid-{number}".encode()
        assert not any(s.hears(0.01) for s in home.workers if s is not rung[0])
        rung[0].settle(item)
        assert not rung[0].claim(), "what it found was all"
        eventually(lambda: len(home.waiting()) == 1)
    # One empty claim per item, the one that ends with waiting again.
    assert sum(s.empty_claims for s in home.workers) == 20


def test_at_most_one_item_moves_until_the_rung_worker_was_answered(make: Any) -> None:
    home = make(workers=2).start()
    all_idle(home)
    home.redis.rpush("q", "a", "b", "c")
    (rung,) = eventually(lambda: [s for s in home.workers if s.hears(0)])
    stays(lambda: home.redis.llen("conserver:returned:q") == 1, 0.2)
    assert home.redis.llen("q") == 2
    assert not any(s.hears(0) for s in home.workers)
    # It says that more waits: the other one is rung without a bell.
    assert [item.payload for item in rung.claim(most=1)] == [b"a"]
    other = next(s for s in home.workers if s is not rung)
    assert other.hears(1) == wakeup.WAKE
    assert [item.payload for item in other.claim(most=10)] == [b"b", b"c"]


def test_nothing_waits_in_redis_while_nobody_is_idle_and_for_many_lists_either(make: Any) -> None:
    lists = [f"list-{number}" for number in range(200)]
    home = make(lists=lists, workers=1).start()
    stays(lambda: not home.waiting(), 0.2)
    connections = len(home.redis.client_list())
    assert connections < 8
    all_idle(home, list_waiters=200)
    home.workers[0].say(wakeup.BUSY)
    eventually(lambda: not home.waiting())
    eventually(lambda: len(home.redis.client_list()) <= connections)
    # And again, on new connections.
    all_idle(home, list_waiters=200)
    home.redis.rpush("list-150", "x")
    assert home.workers[0].hears(1) == wakeup.WAKE


def test_a_worker_that_is_busy_and_idle_by_turns_keeps_the_wait(make: Any) -> None:
    home = make(workers=1).start()
    all_idle(home)
    before = home.waiting()
    for _ in range(5):
        home.workers[0].say(wakeup.BUSY)
        home.workers[0].say(wakeup.IDLE)
        home.workers[0].say(wakeup.BUSY)
        stays(lambda: home.waiting() == before, 0.05)
        home.workers[0].say(wakeup.IDLE)


def test_an_item_that_moves_while_nobody_is_idle_is_rung_for_later(make: Any) -> None:
    home = make(workers=1).start()
    all_idle(home)
    home.workers[0].say(wakeup.BUSY)
    home.redis.rpush("q", "a")
    assert not home.workers[0].hears(0.1)
    assert home.everywhere() == 1
    home.workers[0].say(wakeup.IDLE)
    assert home.workers[0].hears(2) == wakeup.WAKE
    assert [item.payload for item in home.workers[0].claim()] == [b"a"]


def test_the_next_worker_is_rung_when_the_rung_one_dies(make: Any) -> None:
    home = make(workers=2).start()
    all_idle(home)
    home.redis.rpush("q", "a")
    (rung,) = eventually(lambda: [s for s in home.workers if s.hears(0)])
    home.tell_children(rung)
    home.return_items(rung)
    other = next(s for s in home.workers if s is not rung)
    assert other.hears(0.5) == wakeup.WAKE
    assert len(other.claim()) == 1


def test_the_next_worker_is_rung_when_the_rung_one_does_not_answer(make: Any) -> None:
    home = make(workers=2).start()
    all_idle(home)
    home.redis.rpush("q", "a")
    (rung,) = eventually(lambda: [s for s in home.workers if s.hears(0)])
    other = next(s for s in home.workers if s is not rung)
    assert other.hears(3) == wakeup.WAKE
    assert len(other.claim()) == 1


def test_the_words_of_a_dead_worker_do_not_count(make: Any) -> None:
    home = make(workers=1).start()
    (straw,) = home.workers
    dead, straw.consumer = straw.consumer, "f" * 16
    home.register(straw)
    straw._end.send(wakeup.IDLE + dead.encode())
    stays(lambda: not home.waiting(), 0.2)
    all_idle(home)


def test_a_paused_list_is_not_armed_and_a_wait_on_it_is_called_off(make: Any) -> None:
    home = make(workers=1).start()
    all_idle(home)
    home.redis.hset("conserver:control", "paused:q", "1")
    eventually(lambda: not home.waiting(), 3)
    home.redis.rpush("q", "a", "b")
    stays(lambda: home.redis.llen("q") == 2, 0.5)
    home.redis.hdel("conserver:control", "paused:q")
    assert home.workers[0].hears(3) == wakeup.WAKE


def test_a_list_at_the_cap_of_parked_items_is_not_armed(make: Any) -> None:
    home = make(workers=1, parked_cap=3)
    far_ms = (time.time() + 3600) * 1000
    home.redis.zadd("conserver:parked:q", {f"record-{n}": far_ms for n in range(3)})
    home.start()
    home.workers[0].say(wakeup.IDLE)
    home.redis.rpush("q", "a")
    stays(lambda: home.redis.llen("q") == 1 and not home.waiting(), 0.5)
    home.redis.zrem("conserver:parked:q", "record-0")
    assert home.workers[0].hears(3) == wakeup.WAKE


def test_a_list_that_nobody_claims_is_not_pumped_into_returned(make: Any) -> None:
    """A rung worker may be unable to take from this very list (its chain is full)."""
    home = make(workers=1).start()
    all_idle(home)
    home.redis.rpush("q", *(f"uuid-{n}" for n in range(100)))
    deadline_s = time.monotonic() + 1
    while time.monotonic() < deadline_s:
        if home.workers[0].hears(0.05):
            home.workers[0].say(wakeup.IDLE)
    assert home.redis.llen("conserver:returned:q") == 1
    assert home.redis.llen("q") == 99


def test_a_list_of_the_wrong_type_harms_no_other(make: Any) -> None:
    home = make(lists=["bad", "good"], workers=1)
    home.redis.set("bad", "a string")
    home.start()
    home.workers[0].say(wakeup.IDLE)
    eventually(lambda: len(home.waiting()) == 1)
    home.redis.rpush("good", "a")
    assert home.workers[0].hears(1) == wakeup.WAKE
    assert len(home.workers[0].claim()) == 1
    home.redis.delete("bad")
    home.workers[0].say(wakeup.IDLE)
    eventually(lambda: len(home.waiting()) == 2, 5)


def test_two_hosts_wake_one_of_them_per_item(make: Any) -> None:
    homes = [make(workers=2).start() for _ in range(2)]
    for home in homes:
        for straw in home.workers:
            straw.say(wakeup.IDLE)
    eventually(lambda: len(homes[0].waiting()) == 2)
    straws = [straw for home in homes for straw in home.workers]
    for number in range(10):
        homes[0].redis.rpush("q", f"uuid-{number}")
        (rung,) = eventually(lambda: [s for s in straws if s.hears(0)])
        (item,) = rung.claim()
        assert not any(s.hears(0.02) for s in straws if s is not rung)
        rung.settle(item)
        assert not rung.claim()
        eventually(lambda: len(homes[0].waiting()) == 2)


def test_nothing_is_lost_when_the_coordinator_is_killed_between_move_and_ring(make: Any) -> None:
    home = make(workers=1).start_process()
    all_idle(home)
    for number in range(30):
        home.redis.rpush("q", f"uuid-{number}")
    home.process.kill()
    home.process.join(10)
    assert home.everywhere() == 30
    claimed: list[bytes] = []
    while items := home.workers[0].claim(most=7):
        claimed += [item.payload for item in items]
    assert claimed == [f"uuid-{number}".encode() for number in range(30)]


def test_a_push_rings_within_milliseconds(make: Any) -> None:
    """The figure is printed; the bound only catches a bell that does not ring at all."""
    home = make(workers=4, lists=[f"list-{n}" for n in range(10)]).start()
    all_idle(home, list_waiters=10)
    latencies_ms = []
    for number in range(100):
        begun_s = time.perf_counter()
        home.redis.rpush(f"list-{number % 10}", "x")
        while not (rung := [s for s in home.workers if s.hears(0)]):
            pass
        latencies_ms.append((time.perf_counter() - begun_s) * 1000)
        (item,) = rung[0].claim()
        rung[0].settle(item)
        rung[0].claim()
        eventually(lambda: len(home.waiting()) == 10)
    print(f"push to ring: p50 {statistics.median(latencies_ms):.2f} ms")  # noqa: T201
    assert statistics.median(latencies_ms) < 100
