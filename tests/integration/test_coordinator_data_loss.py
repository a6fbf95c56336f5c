"""The coordinator notices that Redis has lost data, and says at the start how it may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from servers import Redis
from structlog.testing import capture_logs

from conserver.config.model import Config
from conserver.http.api.visible import visible
from conserver.operations import hosts
from conserver.operations.tokens import Token
from conserver.queue import keys
from tests.conftest import Private
from tests.coordination import FakeHost, fake_host
from tests.helpers import eventually


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def server(private: Private) -> Any:
    return private(Redis())


@pytest.fixture
def host(server: Any, lines: list[Any]) -> Iterator[FakeHost]:
    """Its worker holds two items; three wait, one is dead."""
    with ExitStack() as stack:
        made = stack.enter_context(fake_host(server.url, lease_s=2, workers=1)).start()
        made.redis.rpush("q", *(f"u-{n}" for n in range(5)))
        held = made.workers[0].claim(most=2)
        made.redis.rpush(keys.dead_letters("q"), "u-9")
        for item in held:
            made.workers[0].shared_status.hold(held.index(item), item.token, item.epoch, "", "c")
        made.send_state()
        made.beats_on(3)  # It has counted by then.
        yield made


def told(lines: list[Any], event: str = "redis_lost_data") -> list[dict[str, Any]]:
    return [dict(line) for line in lines if line["event"] == event]


def test_a_redis_that_was_emptied_is_an_error_with_counts(host: FakeHost, lines: list[Any]) -> None:
    host.redis.flushall()
    (line,) = eventually(lambda: told(lines))
    assert line["log_level"] == "error"
    assert "it came back empty" in line["how"]
    assert (line["waiting"], line["in_flight"], line["dead"], line["parked"]) == (3, 2, 1, 0)
    host.beats_on(3)
    assert len(told(lines)) == 1
    [status] = hosts.read(host.redis)
    assert status.lost["how"] == line["how"]
    assert status.lost["known"] == {"waiting": 3, "parked": 0, "dead": 1, "in_flight": 2}
    [of_two] = visible([status], Token("ann", ("read",), ("q",)), Config())
    assert of_two.lost == {**status.lost, "known": {}}


def test_a_redis_that_was_restarted_without_persistence(
    server: Any, host: FakeHost, lines: list[Any]
) -> None:
    server.kill()
    server.start()
    (line,) = eventually(lambda: told(lines))
    assert "it came back empty" in line["how"]


def test_a_redis_that_is_as_it_was_some_time_ago(host: FakeHost, lines: list[Any]) -> None:
    """As after a restore from a snapshot."""
    host.redis.hset(keys.host(host.id), "beat", "1000.1")
    (line,) = eventually(lambda: told(lines))
    assert "it went back by" in line["how"]


def test_a_host_key_that_somebody_deleted_is_no_loss(host: FakeHost, lines: list[Any]) -> None:
    host.redis.delete(keys.host(host.id))
    host.beats_on(4)
    assert not told(lines)
    assert [one.lost for one in hosts.read(host.redis)] == [{}]


@pytest.mark.parametrize(
    ("options", "subjects"),
    [
        ({"save": "", "appendonly": "no"}, ["persistence"]),
        ({"appendonly": "yes"}, []),
        (
            {"appendonly": "yes", "maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"},
            ["eviction"],
        ),
    ],
)
def test_a_redis_that_may_lose_items_is_told_of_at_the_start(
    private: Private, lines: list[Any], options: dict[str, str], subjects: list[str]
) -> None:
    server = private(Redis(options))
    with fake_host(server.url, lease_s=2) as host:
        host.start()
        host.beats_on(2)  # both are asked for at once
        eventually(lambda: len(told(lines, "redis_may_lose_items")) >= len(subjects))
    assert [line["subject"] for line in told(lines, "redis_may_lose_items")] == subjects


def test_a_user_who_lacks_a_right_is_told_of_at_the_start(
    private: Private, lines: list[Any]
) -> None:
    server = private(Redis({"appendonly": "yes"}))
    server.ask("ACL", "SETUSER", "poor", "on", "nopass", "~*", "&*", "+@all", "-lpush")
    with fake_host(server.url.replace("//", "//poor:x@"), lease_s=2) as host:
        host.start()
        (line,) = eventually(lambda: told(lines, "redis_may_lose_items"))
    assert (line["subject"], line["found"]) == ("rights", "user poor may not call lpush")
    assert line["advice"] == "ACL SETUSER poor +lpush"
