"""Keys of ours that hold another type: the coordinator tells of them, and goes on with all else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from conserver.queue import calls, script
from tests.coordination import House, house
from tests.helpers import eventually
from tests.queues import record


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as told:
        yield told


@pytest.fixture
def make(redis_url: str, lines: list[Any]) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda **arguments: stack.enter_context(house(redis_url, **arguments))


def told_of(lines: list[Any]) -> list[str]:
    return [line["key"] for line in lines if line["event"] == "wrong_type"]


def park(home: House, name: str) -> None:
    """An item whose time has come."""
    home.redis.zadd(f"conserver:parked:{name}", {record(f"t-{name}", name, name): 1})


@pytest.mark.parametrize("place", ["returned", "parked"])
def test_due_items_of_other_lists_go_back(make: Any, lines: list[Any], place: str) -> None:
    home = make(lists=["bad", "good"])
    key = f"conserver:{place}:bad"
    if place == "returned":
        park(home, "bad")
    home.redis.set(key, "x")
    home.start()
    park(home, "good")
    eventually(lambda: home.redis.llen("conserver:returned:good") == 1, 5)
    eventually(lambda: key in told_of(lines), 5)
    assert told_of(lines).count(key) == 1, "once a minute"
    [line] = [line for line in lines if line.get("key") == key]
    assert (line["log_level"], line["found"]) == ("error", "string")
    assert f"DEL {key}" in line["what"]


@pytest.mark.parametrize("place", ["suspects", "dead"])
def test_nothing_else_of_a_list_ends_the_coordinator(
    make: Any, lines: list[Any], place: str
) -> None:
    home = make(lists=["bad", "good"], lease_s=1)
    home.redis.set(f"conserver:{place}:bad", "x")
    home.start()
    beat = home.redis.hget(calls.host_key(home.host), "beat")
    eventually(lambda: home.redis.hget(calls.host_key(home.host), "beat") != beat, 5)
    park(home, "good")
    eventually(lambda: home.redis.llen("conserver:returned:good") == 1, 5)
    if place == "suspects":
        assert eventually(lambda: told_of(lines), 5) == ["conserver:suspects:bad"]


def test_an_own_host_key_that_is_none_is_used_again_once_it_is_mended(
    make: Any, lines: list[Any]
) -> None:
    home = make(lease_s=1).start()
    key = calls.host_key(home.host)
    home.redis.set(key, "x")
    eventually(lambda: key in told_of(lines), 5)
    park(home, "q")
    eventually(lambda: home.redis.llen("conserver:returned:q") == 1, 5)
    home.redis.delete(key)
    eventually(lambda: home.redis.hget(key, "beat"), 5)


@pytest.mark.parametrize("key", [calls.LISTS, calls.HOSTS, calls.CONTROL])
def test_parked_items_of_our_lists_go_back_whatever_the_shared_keys_are(
    make: Any, lines: list[Any], key: str
) -> None:
    home = make().start()
    home.redis.delete(key)
    home.redis.set(key, "x")
    park(home, "q")
    eventually(lambda: home.redis.llen("conserver:returned:q") == 1, 5)
    eventually(lambda: key in told_of(lines), 5)


def test_an_order_that_cannot_be_done_holds_up_no_other(make: Any, lines: list[Any]) -> None:
    home = make(lists=["bad", "good"], workers=2).start()
    first, second = home.workers
    home.redis.rpush("bad", "u1")
    assert len(first.claim()) == 1
    home.redis.rpush("good", "u2")
    assert len(second.claim()) == 1
    home.redis.set("conserver:returned:bad", "x")
    home.return_items(first)
    home.return_items(second)
    eventually(lambda: home.redis.llen("conserver:returned:good") == 1, 5)
    eventually(lambda: "conserver:returned:bad" in told_of(lines), 5)
    assert first.holds() == 1
    home.redis.delete("conserver:returned:bad")
    eventually(lambda: home.redis.llen("conserver:returned:bad") == 1, 5)
    assert first.holds() == 0


def test_another_dead_host_is_reaped_beside_one_whose_key_is_broken(
    make: Any, lines: list[Any]
) -> None:
    home = make(lease_s=1)
    for host in ("broken", "dead"):
        script.run(home.redis, calls.register(host, f"c-{host}", ["q"]))
    home.redis.set(calls.host_key("broken"), "x")
    home.start()
    began_s = time.monotonic()
    eventually(lambda: not home.redis.exists(calls.host_key("dead")), 10)
    assert time.monotonic() - began_s >= 0.9, "not before its lease"
    assert home.redis.sismember(calls.HOSTS, "broken")
    assert calls.host_key("broken") in told_of(lines)


# ---- what is no record ---------------------------------------------------------------------------


def test_what_is_parked_and_no_record_ends_no_coordinator(make: Any, lines: list[Any]) -> None:
    home = make()
    home.redis.zadd("conserver:parked:q", {f"\x01strange {number}": 0 for number in range(300)})
    park(home, "q")
    home.start()
    eventually(lambda: home.redis.llen("conserver:returned:q") == 301, 5)
    assert {line["key"] for line in lines if line["event"] == "no_record"} == {"conserver:parked:q"}
    assert home.redis.lindex("conserver:returned:q", -1) == record("t-q", "q", "q")


def test_what_lay_in_flight_and_is_no_record_keeps_nobody(make: Any, lines: list[Any]) -> None:
    home = make().start()
    (straw,) = home.workers
    home.redis.rpush("q", "u1")
    assert straw.claim()
    home.redis.hset(calls.inflight_key(straw.consumer), "field", "strange")
    home.redis.hset(calls.inflight_key(straw.consumer), "another", "\x01strange")
    number = home.return_items(straw)
    eventually(lambda: home.acknowledged(number), 5)
    assert home.redis.llen("conserver:returned:q") == 1
    assert straw.consumer not in home.registrations()
    [line] = [line for line in lines if line["event"] == "set_aside"]
    assert (line["log_level"], line["count"]) == ("error", 2)
    assert home.redis.hlen(line["key"]) == 2
    assert not home.redis.exists(calls.inflight_key(straw.consumer))
