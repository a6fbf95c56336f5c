"""The coordinator's life, the supervisor's orders, and the state of Redis that they lead to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from servers import Redis, free_port

from conserver.coordinator.coordinator import Coordinator
from conserver.errors import EXIT_UNAVAILABLE, BootError
from conserver.queue import calls, record, script
from tests.coordination import House, Straw, house, stays
from tests.helpers import TcpProxy, eventually


@pytest.fixture
def make(redis_url: str) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda **arguments: stack.enter_context(house(redis_url, **arguments))


def held_by(straw: Straw, count: int) -> list[record.Claimed]:
    """Give a worker so many items."""
    redis = straw.house.redis
    redis.rpush("q", *(f"uuid-{straw.slot}-{number}" for number in range(count)))
    items: list[record.Claimed] = []
    while len(items) < count:
        items += straw.claim(most=count, empty=False)
    return items


def returned(home: House, name: str = "q") -> list[record.Claimed]:
    return [record.parse(raw) for raw in home.redis.lrange(f"conserver:returned:{name}", 0, -1)]


def suspects(home: House, name: str = "q") -> list[record.Claimed]:
    return [record.parse(raw) for raw in home.redis.lrange(f"conserver:suspects:{name}", 0, -1)]


# ---- the start


def test_it_registers_beats_and_shows_its_host(make: Any) -> None:
    home = make(workers=2, lease_s=1).start()
    assert set(home.registrations()) == {straw.consumer for straw in home.workers}
    assert home.redis.smembers(calls.HOSTS) == {home.host.encode()}
    assert home.redis.smembers(calls.LISTS) == {b"q"}
    home.workers[0].shared_status.hold(7, "token", 3, "the-uuid", "chain")
    home.workers[0].shared_status.start_link(7, "transcribe")
    home.workers[0].shared_status.count(done=5, failed=1)
    home.tell_state()
    eventually(lambda: home.status()["workers"])
    status = home.status()
    first, second = status["workers"]
    assert (first["done"], first["failed"], first["held"]) == (5, 1, 1)
    (item,) = first["items"]
    assert (item["uuid"], item["link"], item["phase"]) == ("the-uuid", "transcribe", "running")
    assert second["held"] == 0
    assert status["lists"] == ["q"]
    assert status["pid"] == str(os.getpid()).encode()
    home.beats_on(3)


def test_news_do_not_wait_for_the_next_beat(make: Any) -> None:
    home = make(workers=2, lease_s=3600).start()
    home.tell_state()
    eventually(lambda: len(home.status()["workers"]) == 2)
    before = home.redis.hget(calls.host_key(home.host), "beat")
    home.tell_state({1: 4711})
    eventually(lambda: home.status()["workers"][0]["pid"] == 4711)
    assert home.redis.hget(calls.host_key(home.host), "beat") != before


def test_it_stamps_its_page_all_the_time(make: Any) -> None:
    home = make().start()
    for _ in range(3):
        home.heartbeats_on()


def test_a_redis_that_is_not_there_is_a_boot_failure_that_names_it() -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with house(url, boot_timeout_s=0.5) as home:
        home.start(ready=False)
        with pytest.raises(BootError) as failure:
            home.join()
        assert home.shared_status.read().heartbeats > 0, "it stamped while it waited"
    assert failure.value.exit_code == EXIT_UNAVAILABLE
    assert f"127.0.0.1:{url.rpartition(':')[2]}" in str(failure.value)
    assert "secret" not in str(failure.value)


def test_a_coordinator_that_waits_for_redis_does_not_outlive_its_supervisor() -> None:
    with house(f"redis://127.0.0.1:{free_port()}/0", boot_timeout_s=60) as home:
        home.start(ready=False)
        home.heartbeats_on()
        home.die()
        home.join(timeout_s=1)


def test_a_wrong_password_is_told_at_once(private: Any) -> None:
    server = private(Redis({"requirepass": "right"}))
    url = f"redis://:wrong@127.0.0.1:{server.port}/0"
    with house(url, boot_timeout_s=30) as home:
        home.start(ready=False)
        with pytest.raises(BootError, match="password"):
            home.join()


# ---- orders


def test_orders_may_be_repeated(make: Any) -> None:
    home = make().start()
    (straw,) = home.workers
    held_by(straw, 3)
    number = straw.number
    home.register(straw)
    assert home.registrations() == {straw.consumer: str(number)}, "the number did not go back"
    first = home.return_items(straw)
    again = home.return_items(straw)
    eventually(lambda: home.acknowledged(first) and home.acknowledged(again))
    assert home.registrations() == {}
    assert len(returned(home)) == 3
    assert home.everywhere() == 3


def test_a_return_is_bounded_per_call_and_complete(make: Any) -> None:
    home = make().start()
    (straw,) = home.workers
    held_by(straw, 200)
    number = home.return_items(straw)
    eventually(lambda: home.acknowledged(number))
    assert straw.holds() == 0
    assert home.everywhere() == 200
    assert home.registrations() == {}


def test_the_blamed_become_suspects_and_the_overdue_count(make: Any) -> None:
    home = make().start()
    (straw,) = home.workers
    running, overdue, innocent = held_by(straw, 3)
    blamed = [[item.token, item.epoch] for item in (running, overdue)]
    number = home.return_items(straw, "items", items=blamed, counted=[overdue.token])
    eventually(lambda: home.acknowledged(number))
    assert [item.token for item in returned(home)] == [innocent.token]
    deliveries = {item.token: item.deliveries for item in suspects(home)}
    assert deliveries == {running.token: 0, overdue.token: 1}


def test_a_consumer_that_nobody_knows_is_given_back_after_a_grace(make: Any) -> None:
    """Its registration is the work of a coordinator before this one, which died with the order."""
    home = make(lease_s=1)
    script.run(home.redis, calls.register(home.host, "e" * 16, ["q"]))
    home.redis.rpush("q", "a")
    claim = calls.claim(
        home.host, "e" * 16, 1, True, [calls.Demand("q", 1, 3)], calls.ClaimLimits()
    )
    assert calls.read_claim(script.run(home.redis, claim)).items
    home.start()
    eventually(lambda: "e" * 16 not in home.registrations())
    assert [item.payload for item in suspects(home)] == [b"a"], "nobody told whom to blame"
    assert set(home.registrations()) == {home.workers[0].consumer}


def test_an_order_that_is_on_its_way_names_the_blame(make: Any) -> None:
    home = make(lease_s=1).start()
    (straw,) = home.workers
    held_by(straw, 2)
    home.tell_children(straw)
    home.beats_on(2)
    number = home.return_items(straw)
    eventually(lambda: home.acknowledged(number))
    assert len(returned(home)) == 2
    assert not suspects(home)


def test_a_living_consumer_is_left_alone_even_if_its_registration_is_void(make: Any) -> None:
    home = make(lease_s=1).start()
    (straw,) = home.workers
    held_by(straw, 2)
    home.redis.hset(calls.host_key(home.host), f"consumer:{straw.consumer}", "void")
    home.beats_on(8)
    assert straw.holds() == 2
    # It has died: the return goes on, although its registration was void before.
    number = home.return_items(straw)
    eventually(lambda: home.acknowledged(number))
    assert home.registrations() == {}
    assert len(returned(home)) == 2


def test_items_that_a_failover_gave_back_to_a_dead_consumer_return(make: Any) -> None:
    home = make(lease_s=1).start()
    (straw,) = home.workers
    item, _ = held_by(straw, 2)
    (undone, *_rest) = home.redis.hmget(calls.inflight_key(straw.consumer), item.token)
    number = home.return_items(straw)
    eventually(lambda: home.acknowledged(number))
    home.tell_children(straw)
    home.redis.delete("conserver:returned:q")
    home.redis.hset(calls.inflight_key(straw.consumer), item.token, undone)
    eventually(lambda: straw.holds() == 0)
    assert [item.token for item in returned(home)] == [item.token]
    assert not suspects(home), "the order had said that nobody is to blame"


def test_a_new_coordinator_takes_over_what_a_killed_one_left(make: Any) -> None:
    home = make(workers=2, lease_s=1).start_process()
    dead, alive = home.workers
    held_by(dead, 5)
    held_by(alive, 2)
    home.process.kill()
    home.process.join(10)
    home.told.clear()
    home.start(ready=False)
    home.wait_for("ready")
    number = home.return_items(dead)
    home.tell_children(dead)
    eventually(lambda: home.acknowledged(number))
    assert len(returned(home)) == 5
    assert set(home.registrations()) == {alive.consumer}
    home.beats_on(3)
    assert alive.holds() == 2


# ---- the end


def test_a_drained_coordinator_leaves_no_trace_of_its_host(make: Any) -> None:
    home = make(workers=2).start()
    held_by(home.workers[0], 3)
    for straw in home.workers:
        home.return_items(straw)
    home.drain()
    home.join()
    assert not home.redis.exists(calls.host_key(home.host))
    assert not home.redis.smembers(calls.HOSTS)
    assert len(returned(home)) == 3


def test_a_drained_coordinator_finishes_all_orders_first(make: Any) -> None:
    home = make().start()
    held_by(home.workers[0], 150)
    number = home.return_items(home.workers[0])
    home.drain()
    home.join()
    assert home.acknowledged(number)
    assert home.everywhere() == 150


def test_a_coordinator_that_a_successor_follows_leaves_the_host_registered(make: Any) -> None:
    home = make().start()
    held_by(home.workers[0], 2)
    home.drain(successor=True)
    home.join()
    assert home.registrations() == {home.workers[0].consumer: str(home.workers[0].number)}
    assert home.redis.sismember(calls.HOSTS, home.host)


def test_a_successor_finds_the_host_even_if_no_worker_is_registered(make: Any) -> None:
    home = make().start()
    home.return_items(home.workers[0])
    home.drain(successor=True)
    home.join()
    assert home.registrations() == {}
    assert home.redis.sismember(calls.HOSTS, home.host)


def test_an_orphaned_coordinator_returns_everything_and_blames_nobody(make: Any) -> None:
    home = make(workers=2).start()
    for straw in home.workers:
        held_by(straw, 2)
    begun_s = time.monotonic()
    home.die()
    home.join()
    assert time.monotonic() - begun_s < 1, "nobody was there to wait for"
    assert len(returned(home)) == 4
    assert not suspects(home)
    assert not home.redis.exists(calls.host_key(home.host))


def test_an_orphaned_coordinator_carries_out_what_was_ordered_before(make: Any) -> None:
    home = make().start()
    item, other = held_by(home.workers[0], 2)
    home.return_items(home.workers[0], "items", items=[[item.token, item.epoch]])
    home.die()
    home.join()
    assert [suspect.token for suspect in suspects(home)] == [item.token]
    assert [innocent.token for innocent in returned(home)] == [other.token]


def test_an_orphaned_coordinator_waits_for_workers_and_kills_what_stays(make: Any) -> None:
    home = make(workers=2).start()
    stubborn, willing = (
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({s})"])
        for s in (600, 0.3)
    )
    home.tell_state({1: stubborn.pid, 2: willing.pid})
    eventually(lambda: len(home.status()["workers"]) == 2, 15)
    held_by(home.workers[0], 1)
    home.die()
    stays(lambda: stubborn.poll() is None, 1.5)
    assert home.workers[0].holds() == 1, "it may still be at work"
    home.join()
    assert stubborn.wait(1) == -signal.SIGKILL
    assert willing.wait(1) == 0
    assert len(returned(home)) == 1


def test_an_orphaned_coordinator_does_not_wait_for_redis_for_ever(private: Any) -> None:
    server = private(Redis())
    with house(server.url) as home:
        home.start()
        server.pause()
        home.die()
        home.join(timeout_s=8)


def test_a_supervisor_that_dies_during_the_drain_does_not_keep_the_coordinator(
    private: Any,
) -> None:
    server = private(Redis())
    with house(server.url) as home:
        home.start()
        server.pause()
        home.return_items(home.workers[0])
        home.drain()
        stays(lambda: home._thread is not None and home._thread.is_alive(), 0.3)
        home.die()
        home.join(timeout_s=8)


# ---- Redis is away


def test_it_waits_for_redis_for_ever_and_goes_on(private: Any) -> None:
    server = private(Redis({"appendonly": "yes"}))
    with house(server.url, lease_s=1) as home:
        home.start()
        held_by(home.workers[0], 3)
        server.kill()
        number = home.return_items(home.workers[0])
        for _ in range(5):
            home.heartbeats_on()
        assert not home.acknowledged(number)
        server.start()
        eventually(lambda: home.acknowledged(number), 5)
        assert len(returned(home)) == 3
        home.beats_on(2)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_commands_that_are_cut_are_repeated(redis_url: str, moment: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with TcpProxy(port) as proxy, house(proxy.url(redis_url), lease_s=1) as home:
        home.start()
        held_by(home.workers[0], 100)
        cut = proxy.cut_before if moment == "before" else proxy.cut_after
        cut(home.workers[0].consumer.encode(), times=2)
        number = home.return_items(home.workers[0])
        eventually(lambda: home.acknowledged(number))
        assert home.everywhere() == 100
        assert home.registrations() == {}


def test_at_maxmemory_orders_are_done_and_idle_workers_still_rung_later(private: Any) -> None:
    server = private(Redis({"maxmemory": "1", "maxmemory-policy": "noeviction"}))
    with house(server.url, lease_s=1) as home:
        home.redis.config_set("maxmemory", 0)
        home.start()
        held_by(home.workers[0], 3)
        home.redis.config_set("maxmemory", 1)
        home.beats_on(2)
        home.workers[0].say(b"I")
        stays(lambda: not home.waiting(), 0.3)
        number = home.return_items(home.workers[0])
        eventually(lambda: home.acknowledged(number))
        assert len(returned(home)) == 3
        home.redis.config_set("maxmemory", 0)
        home.redis.delete("conserver:returned:q")
        home.workers[0].consumer = "a" * 16
        home.register(home.workers[0])
        home.workers[0].say(b"I")
        eventually(home.waiting, 3)


class Idle(Coordinator):
    """A coordinator whose beats cost nothing."""

    async def _beat(self) -> tuple[str, dict[str, str]]:
        return "beat", {}


def test_an_end_that_comes_with_news_is_an_end(make: Any) -> None:
    """The beating went on for ever, and the host was left to be reaped."""
    home = make()

    async def end_with_news() -> bool:
        coordinator = Idle(home.boot())
        beating = asyncio.create_task(coordinator._beat_forever())
        for _ in range(10):
            await asyncio.sleep(0)  # until it waits for news
        coordinator._beat_due.set()
        beating.cancel()
        _, going_on = await asyncio.wait([beating], timeout=5)
        return not going_on

    assert asyncio.run(end_with_news())
