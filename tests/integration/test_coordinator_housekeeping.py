"""Suspects, parked items, old reasons of dead letters, and lists that no host serves any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from conserver.process import wakeup
from conserver.process.shared_status import State
from conserver.queue import calls, host_calls, keys, record, script
from tests.coordination import FakeHost, FakeWorker, fake_host, stays
from tests.helpers import LONG_S, eventually

pytestmark = pytest.mark.real_time


@pytest.fixture
def make(redis_url: str) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda **arguments: stack.enter_context(fake_host(redis_url, **arguments))


def suspect(host: FakeHost, payload: str = "bad", name: str = "q") -> None:
    """Make an item a suspect, as a crash does."""
    header = f"\x01tok-{payload} 1 0 s {int(time.time() * 1000)} 0 0 0 {name}\n"
    host.redis.rpush(f"conserver:suspects:{name}", header + payload)


def busy(worker: FakeWorker, items: int) -> None:
    worker.shared_status.state = State.WORKING
    for slot in range(items):
        worker.shared_status.hold(slot, f"token-{slot}", 1, "uuid", "chain")


# ---- suspects


def test_the_worker_with_the_fewest_items_finishes_first_again_and_again(make: Any) -> None:
    host = make(workers=3).start()
    first, second, third = host.workers
    busy(first, 3)
    busy(second, 1)
    busy(third, 2)
    suspect(host)
    assert second.receives(LONG_S) == wakeup.FINISH_FIRST
    assert second.receives(LONG_S) == wakeup.FINISH_FIRST, "until a worker has claimed it"
    assert not first.receives(0)
    assert not third.receives(0)
    second.shared_status.free(0)
    (item,) = second.claim()
    assert item.payload == b"bad"
    # An order may have been on its way. They come once a second, as long as there is a reason.
    eventually(lambda: not second.receives(1.5), message="the host runs one already")
    assert not first.receives(0)
    assert not third.receives(0)


def test_a_worker_that_reports_suspects_is_ordered_to_become_empty_at_once(make: Any) -> None:
    host = make(workers=1).start()
    (worker,) = host.workers
    busy(worker, 2)
    stays(lambda: not worker.receives(0), 0.3)
    suspect(host)
    assert worker.receives(LONG_S) == wakeup.FINISH_FIRST
    # The next look would be in a second.
    worker.send(wakeup.SUSPECTS)
    assert worker.receives(0.7) == wakeup.FINISH_FIRST


def test_nobody_finishes_first_while_a_worker_is_empty_already(make: Any) -> None:
    host = make(workers=2).start()
    busy(host.workers[0], 2)
    host.workers[1].shared_status.state = State.IDLE
    host.workers[1].send(wakeup.IDLE)
    suspect(host)
    assert host.workers[1].receives(LONG_S) == wakeup.WAKE
    assert not host.workers[0].receives(0.5)


def test_nobody_is_finish_first_for_suspects_of_a_paused_list(make: Any) -> None:
    host = make(workers=1)
    host.redis.hset("conserver:control", "paused:q", "1")
    host.start()
    busy(host.workers[0], 1)
    suspect(host)
    assert not host.workers[0].receives(1.5)
    host.redis.delete("conserver:control")
    assert host.workers[0].receives(LONG_S) == wakeup.FINISH_FIRST


def test_nobody_finishes_first_while_the_host_runs_a_suspect(make: Any) -> None:
    host = make(workers=2).start()
    runner, other = host.workers
    suspect(host, "one")
    suspect(host, "two")
    (item,) = runner.claim()
    busy(runner, 1)
    busy(other, 1)
    while runner.receives(0):
        continue
    eventually(lambda: not other.receives(1.5))
    assert not runner.receives(0)
    runner.settle(item)
    assert runner.receives(LONG_S) == wakeup.FINISH_FIRST


# ---- parked items


def test_parked_items_come_back_when_they_are_due(make: Any) -> None:
    host = make(workers=1).start()
    (worker,) = host.workers
    host.redis.rpush("q", "a")
    (item,) = worker.claim()
    parked = [calls.Move(item.token, item.epoch, b"{}", after_ms=300)]
    begun_s = time.monotonic()
    script.run(host.redis, calls.move("park", worker.consumer, parked))
    eventually(lambda: host.redis.llen("conserver:returned:q") == 1)
    assert time.monotonic() - begun_s > 0.2


def test_an_idle_worker_is_woken_for_what_comes_back_from_parked(make: Any) -> None:
    host = make(workers=1).start()
    (worker,) = host.workers
    host.redis.rpush("q", "a")
    (item,) = worker.claim()
    move = calls.Move(item.token, item.epoch, b"{}", after_ms=100)
    script.run(host.redis, calls.move("park", worker.consumer, [move]))
    assert not worker.claim()
    assert worker.receives(LONG_S) == wakeup.WAKE
    assert [again.token for again in worker.claim()] == [item.token]


def test_many_parked_items_of_any_list_come_back_and_suspects_stay_suspects(make: Any) -> None:
    host = make(workers=1)
    host.redis.sadd(keys.LISTS, "dropped")
    host.redis.zadd(
        "conserver:parked:dropped", {f"\x01t{n} 1 0 - 0 0 0 0 dropped\np{n}": n for n in range(600)}
    )
    host.redis.zadd("conserver:parked:dropped", {"\x01bad 1 1 s 0 0 0 0 dropped\npayload": 1})
    host.start()
    eventually(lambda: host.redis.llen("conserver:returned:dropped") == 600)
    (bad,) = host.redis.lrange("conserver:suspects:dropped", 0, -1)
    assert record.parse(bad).deaths == 1


# ---- old reasons, and dropped lists


def test_reasons_are_swept_by_age_in_bounded_calls(redis_url: str, make: Any) -> None:
    host = make()
    old_ms, young_ms = time.time() * 1000 - 1_100_000, time.time() * 1000 - 500_000
    host.redis.zadd("conserver:dead:q", {f"old-{n}": old_ms for n in range(300)})
    host.redis.zadd("conserver:dead:q", {f"young-{n}": young_ms for n in range(20)})
    assert script.run(host.redis, host_calls.sweep("q", 1000, 256)) == 256
    assert script.run(host.redis, host_calls.sweep("q", 1000, 256)) == 44
    assert script.run(host.redis, host_calls.sweep("q", 1000, 256)) == 0
    assert host.redis.zcard("conserver:dead:q") == 20


def test_items_that_a_list_waiter_had_moved_go_back_to_a_dropped_list(make: Any) -> None:
    host = make(lists=["kept"])
    record_kept = "\x01t 1 1 - 0 0 0 0 dropped\npayload"
    host.redis.sadd(keys.LISTS, "dropped", "kept")
    host.redis.rpush("conserver:returned:dropped", record_kept, "a", "b")
    host.redis.rpush("conserver:returned:kept", "c")
    host.redis.rpush("dropped", "z")
    host.start()
    eventually(lambda: host.redis.lrange("dropped", 0, -1) == [b"a", b"b", b"z"])
    assert host.redis.lrange("conserver:returned:dropped", 0, -1) == [record_kept.encode()]
    assert host.redis.llen("conserver:returned:kept") == 1


def test_putting_back_takes_equal_payloads_one_by_one_and_minds_the_type(make: Any) -> None:
    host = make()
    host.redis.rpush("conserver:returned:q", "a", "a", "b", "a")
    assert script.run(host.redis, host_calls.put_back("q", 100)) == 4
    assert host.redis.lrange("q", 0, -1) == [b"a", b"a", b"b", b"a"]
    host.redis.rpush("conserver:returned:other", "a")
    host.redis.set("other", "a string")
    assert script.run(host.redis, host_calls.put_back("other", 100)) == 0
    assert host.redis.llen("conserver:returned:other") == 1
