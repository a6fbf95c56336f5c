"""Keys that hold another type than they must: the coordinator logs them and goes on with others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from conserver.queue import host_calls, keys, script
from tests.coordination import FakeHost, fake_host
from tests.helpers import eventually
from tests.queues import record


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """The log lines."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def make(redis_url: str, lines: list[Any]) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda **arguments: stack.enter_context(fake_host(redis_url, **arguments))


def logged(lines: list[Any]) -> list[str]:
    return [line["key"] for line in lines if line["event"] == "wrong_type"]


def park(host: FakeHost, name: str) -> None:
    """Park an item that is due."""
    host.redis.zadd(f"conserver:parked:{name}", {record(f"t-{name}", name, name): 1})


@pytest.mark.parametrize("place", ["returned", "parked"])
def test_due_items_of_other_lists_go_back(make: Any, lines: list[Any], place: str) -> None:
    host = make(lists=["bad", "good"])
    key = f"conserver:{place}:bad"
    if place == "returned":
        park(host, "bad")
    host.redis.set(key, "x")
    host.start()
    park(host, "good")
    eventually(lambda: host.redis.llen("conserver:returned:good") == 1)
    eventually(lambda: key in logged(lines))
    assert logged(lines).count(key) == 1, "once a minute"
    [line] = [line for line in lines if line.get("key") == key]
    assert (line["log_level"], line["found"]) == ("error", "string")
    assert f"DEL {key}" in line["what"]


@pytest.mark.parametrize("place", ["suspects", "dead"])
def test_nothing_else_of_a_list_ends_the_coordinator(
    make: Any, lines: list[Any], place: str
) -> None:
    host = make(lists=["bad", "good"], lease_s=1)
    host.redis.set(f"conserver:{place}:bad", "x")
    host.start()
    beat = host.redis.hget(keys.host(host.id), "beat")
    eventually(lambda: host.redis.hget(keys.host(host.id), "beat") != beat)
    park(host, "good")
    eventually(lambda: host.redis.llen("conserver:returned:good") == 1)
    if place == "suspects":
        assert eventually(lambda: logged(lines)) == ["conserver:suspects:bad"]


def test_an_own_host_key_that_is_none_is_used_again_once_it_is_mended(
    make: Any, lines: list[Any]
) -> None:
    host = make(lease_s=1).start()
    key = keys.host(host.id)
    host.redis.set(key, "x")
    eventually(lambda: key in logged(lines))
    park(host, "q")
    eventually(lambda: host.redis.llen("conserver:returned:q") == 1)
    host.redis.delete(key)
    eventually(lambda: host.redis.hget(key, "beat"))


@pytest.mark.parametrize("key", [keys.LISTS, keys.HOSTS, keys.CONTROL])
def test_parked_items_of_our_lists_go_back_whatever_the_shared_keys_are(
    make: Any, lines: list[Any], key: str
) -> None:
    host = make().start()
    host.redis.delete(key)
    host.redis.set(key, "x")
    park(host, "q")
    eventually(lambda: host.redis.llen("conserver:returned:q") == 1)
    eventually(lambda: key in logged(lines))


def test_an_order_that_cannot_be_done_holds_up_no_other(make: Any, lines: list[Any]) -> None:
    host = make(lists=["bad", "good"], workers=2).start()
    first, second = host.workers
    host.redis.rpush("bad", "u1")
    assert len(first.claim()) == 1
    host.redis.rpush("good", "u2")
    assert len(second.claim()) == 1
    host.redis.set("conserver:returned:bad", "x")
    host.return_items(first)
    host.return_items(second)
    eventually(lambda: host.redis.llen("conserver:returned:good") == 1)
    eventually(lambda: "conserver:returned:bad" in logged(lines))
    assert first.holds() == 1
    host.redis.delete("conserver:returned:bad")
    eventually(lambda: host.redis.llen("conserver:returned:bad") == 1)
    assert first.holds() == 0


def test_a_drained_coordinator_leaves_an_order_that_cannot_be_done(
    make: Any, lines: list[Any]
) -> None:
    host = make().start()
    (worker,) = host.workers
    host.redis.rpush("q", "u1")
    assert len(worker.claim()) == 1
    host.redis.set("conserver:returned:q", "x")
    number = host.return_items(worker)
    host.drain()
    host.join()
    assert not host.acknowledged(number)
    assert worker.holds() == 1, "another host returns it"
    assert logged(lines) == ["conserver:returned:q"]


def test_another_dead_host_is_reaped_beside_one_whose_key_is_broken(
    make: Any, lines: list[Any]
) -> None:
    host = make(lease_s=1)
    for name in ("broken", "dead"):
        script.run(host.redis, host_calls.register(name, f"c-{name}", ["q"]))
    host.redis.set(keys.host("broken"), "x")
    began_s = time.monotonic()
    host.start()
    eventually(lambda: not host.redis.exists(keys.host("dead")))
    assert time.monotonic() - began_s >= 0.9, "not before its lease"
    assert host.redis.sismember(keys.HOSTS, "broken")
    eventually(lambda: keys.host("broken") in logged(lines))


# ---- what is no record ---------------------------------------------------------------------------


def test_what_is_parked_and_no_record_ends_no_coordinator(make: Any, lines: list[Any]) -> None:
    host = make()
    host.redis.zadd("conserver:parked:q", {f"\x01strange {number}": 0 for number in range(300)})
    park(host, "q")
    host.start()
    eventually(lambda: host.redis.llen("conserver:returned:q") == 301)
    assert {line["key"] for line in lines if line["event"] == "no_record"} == {"conserver:parked:q"}
    assert host.redis.lindex("conserver:returned:q", -1) == record("t-q", "q", "q")


def test_what_lay_in_flight_and_is_no_record_keeps_nobody(make: Any, lines: list[Any]) -> None:
    host = make().start()
    (worker,) = host.workers
    host.redis.rpush("q", "u1")
    assert worker.claim()
    host.redis.hset(keys.inflight(worker.consumer), "field", "strange")
    host.redis.hset(keys.inflight(worker.consumer), "another", "\x01strange")
    number = host.return_items(worker)
    eventually(lambda: host.acknowledged(number))
    assert host.redis.llen("conserver:returned:q") == 1
    assert worker.consumer not in host.registrations()
    [line] = [line for line in lines if line["event"] == "set_aside"]
    assert (line["log_level"], line["count"]) == ("error", 2)
    assert host.redis.hlen(line["key"]) == 2
    assert not host.redis.exists(keys.inflight(worker.consumer))
