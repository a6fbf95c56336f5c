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

from conserver.coordinator.coordinator import ORPHANED_TIMEOUT_S, Coordinator
from conserver.errors import EXIT_UNAVAILABLE, BootError
from conserver.queue import calls, host_calls, keys, record, script
from tests.coordination import FakeHost, FakeWorker, fake_host, stays
from tests.helpers import LONG_S, TcpProxy, ended, eventually

pytestmark = pytest.mark.real_time


@pytest.fixture
def make(redis_url: str) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda **arguments: stack.enter_context(fake_host(redis_url, **arguments))


def held_by(worker: FakeWorker, count: int) -> list[record.Claimed]:
    """Give a worker so many items."""
    redis = worker.host.redis
    redis.rpush("q", *(f"uuid-{worker.slot}-{number}" for number in range(count)))
    items: list[record.Claimed] = []
    while len(items) < count:
        items += worker.claim(most=count, empty=False)
    return items


def returned(host: FakeHost, name: str = "q") -> list[record.Claimed]:
    return [record.parse(raw) for raw in host.redis.lrange(f"conserver:returned:{name}", 0, -1)]


def suspects(host: FakeHost, name: str = "q") -> list[record.Claimed]:
    return [record.parse(raw) for raw in host.redis.lrange(f"conserver:suspects:{name}", 0, -1)]


# ---- the start


def test_it_registers_beats_and_shows_its_host(make: Any) -> None:
    host = make(workers=2, lease_s=1).start()
    assert set(host.registrations()) == {worker.consumer for worker in host.workers}
    assert host.redis.smembers(keys.HOSTS) == {host.id.encode()}
    assert host.redis.smembers(keys.LISTS) == {b"q"}
    host.workers[0].shared_status.hold(7, "token", 3, "the-uuid", "chain")
    host.workers[0].shared_status.start_link(7, "transcribe")
    host.workers[0].shared_status.count(done=5, failed=1)
    host.send_state()
    eventually(lambda: host.status()["workers"])
    status = host.status()
    first, second = status["workers"]
    assert (first["done"], first["failed"], first["held"]) == (5, 1, 1)
    (item,) = first["items"]
    assert (item["uuid"], item["link"], item["phase"]) == ("the-uuid", "transcribe", "running")
    assert second["held"] == 0
    assert status["lists"] == ["q"]
    assert status["pid"] == str(os.getpid()).encode()
    host.beats_on(3)


def test_a_changed_status_is_written_at_once(make: Any) -> None:
    host = make(workers=2, lease_s=3600).start()
    host.send_state()
    eventually(lambda: len(host.status()["workers"]) == 2)
    before = host.redis.hget(keys.host(host.id), "beat")
    host.send_state({1: 4711})
    eventually(lambda: host.status()["workers"][0]["pid"] == 4711)
    assert host.redis.hget(keys.host(host.id), "beat") != before


def test_it_updates_its_heartbeat_all_the_time(make: Any) -> None:
    host = make().start()
    for _ in range(3):
        host.heartbeats_on()


def test_a_redis_that_is_not_there_is_a_boot_failure_that_names_it() -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with fake_host(url, boot_timeout_s=1) as host:
        host.start(ready=False)
        with pytest.raises(BootError) as failure:
            host.join()
        assert host.shared_status.read().heartbeats > 0, "it updated its heartbeat while it waited"
    assert failure.value.exit_code == EXIT_UNAVAILABLE
    assert f"127.0.0.1:{url.rpartition(':')[2]}" in str(failure.value)
    assert "secret" not in str(failure.value)


def test_a_coordinator_that_waits_for_redis_does_not_outlive_its_supervisor() -> None:
    with fake_host(f"redis://127.0.0.1:{free_port()}/0", boot_timeout_s=600) as host:
        host.start(ready=False)
        host.heartbeats_on()
        host.die()
        host.join()


def test_a_wrong_password_ends_it_at_once(private: Any) -> None:
    server = private(Redis({"requirepass": "right"}))
    url = f"redis://:wrong@127.0.0.1:{server.port}/0"
    with fake_host(url, boot_timeout_s=30) as host:
        host.start(ready=False)
        with pytest.raises(BootError, match="password"):
            host.join()


# ---- orders


def test_orders_may_be_repeated(make: Any) -> None:
    host = make().start()
    (worker,) = host.workers
    held_by(worker, 3)
    number = worker.number
    host.register(worker)
    assert host.registrations() == {worker.consumer: str(number)}, (
        "the number of its last claim is kept"
    )
    first = host.return_items(worker)
    again = host.return_items(worker)
    eventually(lambda: host.acknowledged(first) and host.acknowledged(again))
    assert host.registrations() == {}
    assert len(returned(host)) == 3
    assert host.everywhere() == 3


def test_a_return_is_bounded_per_call_and_complete(make: Any) -> None:
    host = make().start()
    (worker,) = host.workers
    held_by(worker, 200)
    number = host.return_items(worker)
    eventually(lambda: host.acknowledged(number))
    assert worker.holds() == 0
    assert host.everywhere() == 200
    assert host.registrations() == {}


def test_the_blamed_become_suspects_and_the_over_limit_count(make: Any) -> None:
    host = make().start()
    (worker,) = host.workers
    running, over_limit, innocent = held_by(worker, 3)
    blamed = [[item.token, item.epoch, item is over_limit, {}] for item in (running, over_limit)]
    number = host.return_items(worker, "items", items=blamed)
    eventually(lambda: host.acknowledged(number))
    assert [item.token for item in returned(host)] == [innocent.token]
    deaths = {item.token: item.deaths for item in suspects(host)}
    assert deaths == {running.token: 0, over_limit.token: 1}


def test_items_of_an_unknown_consumer_are_returned_after_a_grace(make: Any) -> None:
    """An earlier coordinator registered it, and died before the order to return its items."""
    host = make(lease_s=1)
    script.run(host.redis, host_calls.register(host.id, "e" * 16, ["q"]))
    host.redis.rpush("q", "a")
    claim = calls.claim(host.id, "e" * 16, 1, True, [calls.Demand("q", 1)], calls.ClaimLimits())
    assert calls.read_claim(script.run(host.redis, claim)).items
    host.start()
    eventually(lambda: "e" * 16 not in host.registrations())
    assert [item.payload for item in suspects(host)] == [b"a"], "no order said what is to blame"
    assert set(host.registrations()) == {host.workers[0].consumer}


def test_a_return_order_within_the_grace_decides_what_is_blamed(make: Any) -> None:
    host = make(lease_s=1).start()
    (worker,) = host.workers
    held_by(worker, 2)
    host.send_children(worker)
    host.beats_on(2)
    number = host.return_items(worker)
    eventually(lambda: host.acknowledged(number))
    assert len(returned(host)) == 2
    assert not suspects(host)


def test_a_living_consumer_is_left_alone_even_if_its_registration_is_void(make: Any) -> None:
    host = make(lease_s=1).start()
    (worker,) = host.workers
    held_by(worker, 2)
    host.redis.hset(keys.host(host.id), f"consumer:{worker.consumer}", "void")
    host.beats_on(8)
    assert worker.holds() == 2
    # It dies: its items are returned although its registration was void before.
    number = host.return_items(worker)
    eventually(lambda: host.acknowledged(number))
    assert host.registrations() == {}
    assert len(returned(host)) == 2


def test_items_that_a_failover_gave_back_to_a_dead_consumer_return(make: Any) -> None:
    host = make(lease_s=1).start()
    (worker,) = host.workers
    item, _ = held_by(worker, 2)
    (undone, *_rest) = host.redis.hmget(keys.inflight(worker.consumer), item.token)
    number = host.return_items(worker)
    eventually(lambda: host.acknowledged(number))
    host.send_children(worker)
    host.redis.delete("conserver:returned:q")
    host.redis.hset(keys.inflight(worker.consumer), item.token, undone)
    eventually(lambda: worker.holds() == 0)
    assert [item.token for item in returned(host)] == [item.token]
    assert not suspects(host), "the order said that nothing is to blame"


def test_a_new_coordinator_takes_over_what_a_killed_one_left(make: Any) -> None:
    host = make(workers=2, lease_s=1).start_process()
    dead, alive = host.workers
    held_by(dead, 5)
    held_by(alive, 2)
    host.process.kill()
    host.process.join(60)
    host.received.clear()
    host.start(ready=False)
    host.wait_for("ready")
    number = host.return_items(dead)
    host.send_children(dead)
    eventually(lambda: host.acknowledged(number))
    assert len(returned(host)) == 5
    assert set(host.registrations()) == {alive.consumer}
    host.beats_on(3)
    assert alive.holds() == 2


# ---- the end


def test_a_drained_coordinator_leaves_no_trace_of_its_host(make: Any) -> None:
    host = make(workers=2).start()
    held_by(host.workers[0], 3)
    for worker in host.workers:
        host.return_items(worker)
    host.drain()
    host.join()
    assert not host.redis.exists(keys.host(host.id))
    assert not host.redis.smembers(keys.HOSTS)
    assert len(returned(host)) == 3


def test_a_drained_coordinator_finishes_all_orders_first(make: Any) -> None:
    host = make().start()
    held_by(host.workers[0], 150)
    number = host.return_items(host.workers[0])
    host.drain()
    host.join()
    assert host.acknowledged(number)
    assert host.everywhere() == 150


def test_a_coordinator_that_a_successor_follows_leaves_the_host_registered(make: Any) -> None:
    host = make().start()
    held_by(host.workers[0], 2)
    host.drain(successor=True)
    host.join()
    assert host.registrations() == {host.workers[0].consumer: str(host.workers[0].number)}
    assert host.redis.sismember(keys.HOSTS, host.id)


def test_a_successor_finds_the_host_even_if_no_worker_is_registered(make: Any) -> None:
    host = make().start()
    host.return_items(host.workers[0])
    host.drain(successor=True)
    host.join()
    assert host.registrations() == {}
    assert host.redis.sismember(keys.HOSTS, host.id)


def test_an_orphaned_coordinator_returns_everything_and_blames_nobody(make: Any) -> None:
    host = make(workers=2).start()
    for worker in host.workers:
        held_by(worker, 2)
    begun_s = time.monotonic()
    host.die()
    host.join()
    assert time.monotonic() - begun_s < ORPHANED_TIMEOUT_S, "there was no worker to wait for"
    assert len(returned(host)) == 4
    assert not suspects(host)
    assert not host.redis.exists(keys.host(host.id))


def test_an_orphaned_coordinator_executes_the_orders_of_before(make: Any) -> None:
    host = make().start()
    item, other = held_by(host.workers[0], 2)
    host.return_items(host.workers[0], "items", items=[[item.token, item.epoch, False, {}]])
    host.die()
    host.join()
    assert [suspect.token for suspect in suspects(host)] == [item.token]
    assert [innocent.token for innocent in returned(host)] == [other.token]


def test_an_orphaned_coordinator_waits_for_workers_and_kills_what_stays(make: Any) -> None:
    host = make(workers=2).start()
    stubborn = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with (
        ended(stubborn),
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as willing,
        ended(willing),
    ):
        assert willing.stdin is not None  # It ends with its input.
        host.send_state({1: stubborn.pid, 2: willing.pid})
        eventually(lambda: len(host.status()["workers"]) == 2)
        held_by(host.workers[0], 1)
        host.die()
        willing.stdin.close()
        stays(lambda: stubborn.poll() is None, 1)
        assert host.workers[0].holds() == 1, "it may still be at work"
        host.join()
        assert stubborn.wait(LONG_S) == -signal.SIGKILL
        assert willing.wait(LONG_S) == 0
    assert len(returned(host)) == 1


def test_an_orphaned_coordinator_does_not_wait_for_redis_for_ever(private: Any) -> None:
    server = private(Redis())
    with fake_host(server.url) as host:
        host.start()
        server.pause()
        host.die()
        host.join()


def test_a_supervisor_that_dies_during_the_drain_does_not_keep_the_coordinator(
    private: Any,
) -> None:
    server = private(Redis())
    with fake_host(server.url) as host:
        host.start()
        server.pause()
        host.return_items(host.workers[0])
        host.drain()
        stays(lambda: host._thread is not None and host._thread.is_alive(), 0.3)
        host.die()
        host.join()


def test_a_drain_does_not_wait_for_redis_if_no_items_are_to_return(private: Any) -> None:
    server = private(Redis())
    with fake_host(server.url) as host:
        host.start()
        server.kill()
        number = host.return_items(host.workers[0])
        host.drain(patient=False)
        host.join()
        assert not host.acknowledged(number)


# ---- Redis is away


def test_it_waits_for_redis_for_ever_and_goes_on(private: Any) -> None:
    server = private(Redis({"appendonly": "yes"}))
    with fake_host(server.url, lease_s=1) as host:
        host.start()
        held_by(host.workers[0], 3)
        server.kill()
        number = host.return_items(host.workers[0])
        for _ in range(5):
            host.heartbeats_on()
        assert not host.acknowledged(number)
        server.start()
        eventually(lambda: host.acknowledged(number))
        assert len(returned(host)) == 3
        host.beats_on(2)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_commands_that_are_cut_are_repeated(redis_url: str, moment: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with TcpProxy(port) as proxy, fake_host(proxy.url(redis_url), lease_s=1) as host:
        host.start()
        held_by(host.workers[0], 100)
        cut = proxy.cut_before if moment == "before" else proxy.cut_after
        cut(host.workers[0].consumer.encode(), times=2)
        number = host.return_items(host.workers[0])
        eventually(lambda: host.acknowledged(number))
        assert host.everywhere() == 100
        assert host.registrations() == {}


def test_at_maxmemory_orders_are_executed_and_idle_workers_woken_later(private: Any) -> None:
    server = private(Redis({"maxmemory": "1", "maxmemory-policy": "noeviction"}))
    with fake_host(server.url, lease_s=1) as host:
        host.redis.config_set("maxmemory", 0)
        host.start()
        held_by(host.workers[0], 3)
        host.redis.config_set("maxmemory", 1)
        host.beats_on(2)
        host.workers[0].send(b"I")
        stays(lambda: not host.waiting(), 0.3)
        number = host.return_items(host.workers[0])
        eventually(lambda: host.acknowledged(number))
        assert len(returned(host)) == 3
        host.redis.config_set("maxmemory", 0)
        host.redis.delete("conserver:returned:q")
        host.workers[0].consumer = "a" * 16
        host.register(host.workers[0])
        host.workers[0].send(b"I")
        eventually(host.waiting)


class Idle(Coordinator):
    """A coordinator whose heartbeats are not sent."""

    async def _beat(self) -> tuple[str, list[bytes]]:
        return "beat", [b"", b"0"]


def test_the_heartbeat_ends_although_the_status_has_just_changed(make: Any) -> None:
    """Regression: the heartbeat went on for ever, and the host had to be reaped."""
    host = make()

    async def end_with_news() -> bool:
        coordinator = Idle(host.boot())
        beating = asyncio.create_task(coordinator._beat_forever())
        for _ in range(10):
            await asyncio.sleep(0)  # until it waits for the next one
        coordinator._beat_due.set()
        beating.cancel()
        _, going_on = await asyncio.wait([beating], timeout=LONG_S)
        await coordinator._redis.close()
        return not going_on

    assert asyncio.run(end_with_news())
