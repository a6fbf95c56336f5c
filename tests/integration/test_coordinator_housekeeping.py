"""Suspects, parked items, old reasons, and lists that are served no more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from conserver.process import wakeup
from conserver.process.shared_status import State
from conserver.queue import calls, record, script
from tests.coordination import House, Straw, house, stays
from tests.helpers import eventually


@pytest.fixture
def make(redis_url: str) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda **arguments: stack.enter_context(house(redis_url, **arguments))


def suspect(home: House, payload: str = "bad", name: str = "q") -> None:
    """Let a record be a suspect, as a crash does."""
    header = f"\x01tok-{payload} 1 0 s {int(time.time() * 1000)} 0 0 0 {name}\n"
    home.redis.rpush(f"conserver:suspects:{name}", header + payload)


def busy(straw: Straw, items: int) -> None:
    straw.shared_status.state = State.WORKING
    for slot in range(items):
        straw.shared_status.hold(slot, f"token-{slot}", 1, "uuid", "chain")


# ---- suspects


def test_the_worker_with_the_fewest_items_is_emptied_again_and_again(make: Any) -> None:
    home = make(workers=3).start()
    first, second, third = home.workers
    busy(first, 3)
    busy(second, 1)
    busy(third, 2)
    suspect(home)
    assert second.hears(3) == wakeup.EMPTY
    assert second.hears(3) == wakeup.EMPTY, "until one has claimed it"
    assert not first.hears(0)
    assert not third.hears(0)
    second.shared_status.free(0)
    (item,) = second.claim()
    assert item.payload == b"bad"
    while second.hears(0):
        continue
    assert not any(straw.hears(0.7) for straw in home.workers), "it runs one"


def test_the_word_of_a_worker_brings_the_order_at_once(make: Any) -> None:
    home = make(workers=1).start()
    (straw,) = home.workers
    busy(straw, 2)
    stays(lambda: not straw.hears(0), 0.3)
    suspect(home)
    straw.say(wakeup.SUSPECTS)
    assert straw.hears(0.5) == wakeup.EMPTY


def test_nobody_is_emptied_while_a_worker_is_empty_already(make: Any) -> None:
    home = make(workers=2).start()
    busy(home.workers[0], 2)
    home.workers[1].shared_status.state = State.IDLE
    home.workers[1].say(wakeup.IDLE)
    suspect(home)
    assert home.workers[1].hears(3) == wakeup.WAKE
    assert not home.workers[0].hears(0.5)


def test_nobody_is_emptied_for_suspects_of_a_paused_list(make: Any) -> None:
    home = make(workers=1)
    home.redis.hset("conserver:control", "paused:q", "1")
    home.start()
    busy(home.workers[0], 1)
    suspect(home)
    assert not home.workers[0].hears(1.5)
    home.redis.delete("conserver:control")
    assert home.workers[0].hears(3) == wakeup.EMPTY


def test_nobody_is_emptied_while_the_host_runs_a_suspect(make: Any) -> None:
    home = make(workers=2).start()
    runner, other = home.workers
    suspect(home, "one")
    suspect(home, "two")
    (item,) = runner.claim()
    busy(runner, 1)
    busy(other, 1)
    while other.hears(0) or runner.hears(0):
        continue
    assert not other.hears(1.5)
    assert not runner.hears(0)
    runner.settle(item)
    assert runner.hears(3) == wakeup.EMPTY


# ---- parked items


def test_parked_items_come_back_when_they_are_due(make: Any) -> None:
    home = make(workers=1).start()
    (straw,) = home.workers
    home.redis.rpush("q", "a")
    (item,) = straw.claim()
    parked = [calls.Move(item.token, item.epoch, b"{}", after_ms=300)]
    script.run(home.redis, calls.park(straw.consumer, parked))
    begun_s = time.monotonic()
    eventually(lambda: home.redis.llen("conserver:returned:q") == 1, 3)
    assert 0.2 < time.monotonic() - begun_s < 1.5


def test_an_idle_worker_is_rung_for_what_comes_back_from_parked(make: Any) -> None:
    home = make(workers=1).start()
    (straw,) = home.workers
    home.redis.rpush("q", "a")
    (item,) = straw.claim()
    move = calls.Move(item.token, item.epoch, b"{}", after_ms=100)
    script.run(home.redis, calls.park(straw.consumer, [move]))
    assert not straw.claim()
    assert straw.hears(2) == wakeup.WAKE
    assert [again.token for again in straw.claim()] == [item.token]


def test_many_parked_items_of_any_list_come_back_and_suspects_stay_suspects(make: Any) -> None:
    home = make(workers=1)
    home.redis.sadd(calls.LISTS, "dropped")
    home.redis.zadd(
        "conserver:parked:dropped", {f"\x01t{n} 1 0 - 0 0 0 0 dropped\np{n}": n for n in range(600)}
    )
    home.redis.zadd("conserver:parked:dropped", {"\x01bad 1 1 s 0 0 0 0 dropped\npayload": 1})
    home.start()
    eventually(lambda: home.redis.llen("conserver:returned:dropped") == 600)
    (bad,) = home.redis.lrange("conserver:suspects:dropped", 0, -1)
    assert record.parse(bad).deliveries == 1


# ---- old reasons, and dropped lists


def test_reasons_are_swept_by_age_in_bounded_calls(redis_url: str, make: Any) -> None:
    home = make()
    old_ms, young_ms = time.time() * 1000 - 11_000, time.time() * 1000 - 5_000
    home.redis.zadd("conserver:dead:q", {f"old-{n}": old_ms for n in range(300)})
    home.redis.zadd("conserver:dead:q", {f"young-{n}": young_ms for n in range(20)})
    assert script.run(home.redis, calls.sweep("q", 10, 256)) == 256
    assert script.run(home.redis, calls.sweep("q", 10, 256)) == 44
    assert script.run(home.redis, calls.sweep("q", 10, 256)) == 0
    assert home.redis.zcard("conserver:dead:q") == 20


def test_what_the_bell_of_a_dropped_list_had_moved_goes_back_to_its_list(make: Any) -> None:
    home = make(lists=["kept"])
    record_kept = "\x01t 1 1 - 0 0 0 0 dropped\npayload"
    home.redis.sadd(calls.LISTS, "dropped", "kept")
    home.redis.rpush("conserver:returned:dropped", record_kept, "a", "b")
    home.redis.rpush("conserver:returned:kept", "c")
    home.redis.rpush("dropped", "z")
    home.start()
    eventually(lambda: home.redis.lrange("dropped", 0, -1) == [b"a", b"b", b"z"])
    assert home.redis.lrange("conserver:returned:dropped", 0, -1) == [record_kept.encode()]
    assert home.redis.llen("conserver:returned:kept") == 1


def test_putting_back_takes_equal_payloads_one_by_one_and_minds_the_type(make: Any) -> None:
    home = make()
    home.redis.rpush("conserver:returned:q", "a", "a", "b", "a")
    assert script.run(home.redis, calls.put_back("q", 100)) == 4
    assert home.redis.lrange("q", 0, -1) == [b"a", b"a", b"b", b"a"]
    home.redis.rpush("conserver:returned:other", "a")
    home.redis.set("other", "a string")
    assert script.run(home.redis, calls.put_back("other", 100)) == 0
    assert home.redis.llen("conserver:returned:other") == 1
