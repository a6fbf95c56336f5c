"""The reaper: a dead host's items are returned after a whole lease; living hosts are left alone."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import pytest
from servers import Redis
from structlog.testing import capture_logs

from conserver.operations.reclaim import stranded
from conserver.queue import keys, record
from tests.command_line import Command
from tests.coordination import FakeHost, fake_host, stays
from tests.helpers import TcpProxy, eventually

pytestmark = pytest.mark.real_time


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged; it must not stand in what commands print, which run in this process."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def make(redis_url: str, lines: list[Any]) -> Iterator[Any]:
    with ExitStack() as stack:

        def made(**arguments: Any) -> FakeHost:
            url = arguments.pop("url", redis_url)
            return stack.enter_context(fake_host(url, **{"lease_s": 1} | arguments))

        yield made


def suspected(host: FakeHost) -> list[bytes]:
    raws = host.redis.lrange("conserver:suspects:q", 0, -1)
    return sorted(record.parse(raw).payload for raw in raws)


def test_a_dead_host_is_reaped_after_a_whole_lease_and_forgotten(make: Any) -> None:
    dead = make(workers=2, lease_s=2).start_process()
    for number, worker in enumerate(dead.workers):
        dead.redis.rpush("q", f"uuid-{number}")
        assert worker.claim()
    watcher = make(lease_s=2).start()
    watcher.beats_on(3)
    before_s = time.monotonic()
    dead.beats_on(1)
    dead.process.kill()
    dead.process.join(60)
    eventually(lambda: not dead.redis.exists(keys.host(dead.id)))
    assert time.monotonic() - before_s > 2, "its last beat was after that"
    assert suspected(dead) == [b"uuid-0", b"uuid-1"], "what it ran is unknown: all are suspects"
    assert watcher.redis.smembers(keys.HOSTS) == {watcher.id.encode()}


def test_several_coordinators_reap_one_host_and_nothing_is_doubled(make: Any) -> None:
    dead = make(workers=3).start_process()
    for worker in dead.workers:
        dead.redis.rpush("q", *(f"uuid-{worker.slot}-{n}" for n in range(100)))
        assert len(worker.claim(most=100, empty=False)) == 100
    watchers = [make().start() for _ in range(3)]
    dead.process.kill()
    dead.process.join(60)
    eventually(lambda: not dead.redis.exists(keys.host(dead.id)))
    assert len(suspected(dead)) == len(set(suspected(dead))) == 300
    assert len(dead.redis.smembers(keys.HOSTS)) == len(watchers)


def test_a_redis_that_stands_still_longer_than_the_lease_kills_nobody(
    private: Any, make: Any
) -> None:
    server = private(Redis())
    hosts = [make(url=server.url).start() for _ in range(2)]
    for host in hosts:
        host.redis.rpush("q", "a")
        assert host.workers[0].claim(empty=False)
    hosts[0].beats_on(2)
    server.pause()
    stays(lambda: True, 3)
    server.resume()
    for host in hosts:
        host.beats_on(5)
        assert set(host.registrations().values()) == {"1"}
        assert host.workers[0].holds() == 1


def test_a_restarted_redis_kills_nobody(private: Any, make: Any) -> None:
    server = private(Redis({"appendonly": "yes", "appendfsync": "always"}))
    hosts = [make(url=server.url).start() for _ in range(2)]
    for host in hosts:
        host.redis.rpush("q", "a")
        assert host.workers[0].claim(empty=False)
    server.kill()
    stays(lambda: True, 2)
    server.start()
    for host in hosts:
        host.beats_on(5)
        assert set(host.registrations().values()) == {"1"}
        assert host.workers[0].holds() == 1


def test_a_watcher_that_was_paused_itself_starts_anew(make: Any) -> None:
    """While it was paused the other host sent no heartbeat either, as when one machine sleeps."""
    other = make(lease_s=2).start_process()
    watcher = make(lease_s=2).start_process()
    watcher.beats_on(3)
    os.kill(other.process.pid, signal.SIGSTOP)
    stays(other.registrations, 0.3)
    os.kill(watcher.process.pid, signal.SIGSTOP)
    stays(lambda: True, 3)
    os.kill(watcher.process.pid, signal.SIGCONT)
    stays(lambda: other.registrations().get(other.workers[0].consumer) == "0", 0.5)
    os.kill(other.process.pid, signal.SIGCONT)
    other.beats_on(5)
    assert other.registrations() == {other.workers[0].consumer: "0"}


def test_a_watch_that_was_interrupted_starts_anew(make: Any, redis_url: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    dead = make(lease_s=3).start_process()
    with TcpProxy(port) as proxy:
        watcher = make(lease_s=3, url=proxy.url(redis_url)).start()
        watcher.beats_on(2)
        dead.process.kill()
        dead.process.join(60)
        for _ in range(4):
            stays(dead.registrations, 1)
            proxy.cut_all()
        eventually(lambda: not dead.redis.exists(keys.host(dead.id)))
        watcher.die()
        watcher.join()


def test_a_host_that_was_reaped_and_wakes_up_comes_back(make: Any) -> None:
    sleeper = make().start_process()
    sleeper.redis.rpush("q", "a")
    assert sleeper.workers[0].claim()
    watcher = make().start()
    watcher.beats_on(2)
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    eventually(lambda: not sleeper.redis.exists(keys.host(sleeper.id)))
    assert suspected(sleeper) == [b"a"]
    os.kill(sleeper.process.pid, signal.SIGCONT)
    sleeper.beats_on(2)
    assert sleeper.redis.sismember(keys.HOSTS, sleeper.id)
    assert sleeper.registrations() == {}, (
        "its workers learn that with their next claim, end and are replaced"
    )


def test_what_a_deleted_host_held_is_found_and_reclaimed(make: Any, conserver: Command) -> None:
    """An operator deletes the hash of a host, which dies before it registers again."""
    dead = make(workers=2).start_process()
    for number, worker in enumerate(dead.workers):
        dead.redis.rpush("q", f"uuid-{number}")
        assert worker.claim()
    watcher = make().start()
    assert conserver.json("reclaim") == {"items": 0}
    dead.process.kill()
    dead.process.join(60)
    dead.redis.delete(keys.host(dead.id))
    dead.redis.srem(keys.HOSTS, dead.id)
    found = orjson.loads(conserver("doctor", "--json").stdout)["findings"]
    [finding] = [finding for finding in found if finding["subject"] == "stranded"]
    assert finding["level"] == "wrong"
    assert finding["text"] == "2 in flight with workers that no host knows"
    assert conserver.json("reclaim") == {"items": 2}
    assert suspected(dead) == [b"uuid-0", b"uuid-1"]
    assert dead.redis.smembers(keys.HOSTS) == {watcher.id.encode()}
    assert stranded(dead.redis) == {}


def test_nothing_is_reclaimed_while_nobody_knows_who_is_registered(
    make: Any, conserver: Command
) -> None:
    """A host's hash that is overwritten hides its workers, and they may be alive."""
    host = make().start()
    host.redis.sadd(keys.HOSTS, "h1")
    host.redis.set(keys.host("h1"), "oops")
    host.redis.hset(keys.inflight("c1"), "token", "record")
    done = conserver("reclaim")
    assert done.returncode == 1
    assert b"conserver:host:h1 is a string and must be a hash" in done.stderr
    assert host.redis.hlen(keys.inflight("c1")) == 1
    assert host.redis.smembers(keys.HOSTS) == {host.id.encode(), b"h1"}


def test_a_host_that_was_reaped_is_named_as_status_names_it(make: Any, lines: list[Any]) -> None:
    dead = make().start_process()
    dead.beats_on(1)
    make().start()
    dead.process.kill()
    reaped = eventually(lambda: [line for line in lines if line["event"] == "host_reaped"])
    assert (reaped[0]["host"], reaped[0]["name"]) == (dead.id, socket.gethostname())
