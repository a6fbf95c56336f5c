"""What operators must be able to ask for when Redis is full: it is then that they have to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError
from servers import Redis

from conserver.config import model
from conserver.operations import (
    audit,
    background,
    dead_letter_moves,
    items,
    lists,
    reload,
    schedules,
    workers,
)
from conserver.operations.background import Order
from conserver.operations.dead_letters import Filter
from conserver.queue import keys
from conserver.queue.clients import client as connect
from tests.conftest import Private
from tests.helpers import eventually
from tests.operators import Consumer, beat

WHO = "me"
CONFIG = """
chains: {main: {ingress_lists: [inbox]}}
schedules: {nightly: {cron: "0 3 * * *", purge: {older: 7d}}}
"""


@pytest.fixture
def full(private: Private) -> Iterator[Any]:
    """A Redis with a dead letter, a held item and a living host, in which nothing fits any more."""
    with connect(private(Redis({"maxmemory-policy": "noeviction"})).url) as client:
        consumer = Consumer(client)
        client.rpush("inbox", "u-1")
        consumer.dead_letter(reason="failed", error="e")
        client.rpush("inbox", "u-2")
        consumer.claim()
        beat(client)
        client.hset(keys.host("h1"), "workers", _workers(consumer.id))
        client.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            client.rpush("inbox", "u-3")
        yield client


def _workers(consumer: str) -> str:
    return f'[{{"slot": 1, "pid": 11, "state": "working", "held": 1, "consumer": "{consumer}"}}]'


def test_pause_and_resume(full: Any) -> None:
    lists.pause(full, ["inbox"], actor=WHO)
    assert lists.paused(full) == ["inbox"]
    lists.resume(full, [], actor=WHO)
    assert [entry.action for entry in audit.recent(full)] == ["resume", "pause"]


def test_drain(full: Any) -> None:
    looks = list(lists.drain(full, ["inbox"], timeout_s=0, actor=WHO))
    assert [(look.paused, look.in_flight) for look in looks] == [(["inbox"], 1)]
    assert lists.paused(full) == ["inbox"]


def test_cancel(full: Any) -> None:
    assert items.cancel(full, "u-2", actor=WHO).running == 1


def test_recycle(full: Any) -> None:
    assert workers.recycle(full, "h1", 1, actor=WHO).held == 1
    assert full.hexists(keys.CONTROL, keys.recycle("h1", 1))


def test_reload(full: Any) -> None:
    request = reload.ask(full, actor=WHO)
    assert full.hget(keys.CONTROL, keys.reload("h1", request)) == WHO.encode()


def test_schedules(full: Any) -> None:
    config = model.parse(CONFIG, {})
    assert schedules.pause(full, config, "nightly", actor=WHO).state.paused
    schedules.resume(full, config, "nightly", actor=WHO)
    schedules.run_now(full, config, "nightly", actor=WHO)
    assert full.hexists(keys.schedule("nightly"), "wanted")


@pytest.mark.parametrize("move", [dead_letter_moves.requeue, dead_letter_moves.purge])
def test_dead_letters(full: Any, move: Any) -> None:
    *_, last = move(full, Filter(), limit=0, dry_run=False, actor=WHO)
    assert last.done == 1
    assert full.llen(keys.dead_letters("inbox")) == 0


def test_a_purge_that_the_api_or_the_dashboard_begins(full: Any) -> None:
    found = full.connection_pool.connection_kwargs
    url = f"redis://{found['host']}:{found['port']}"
    running = background.Operations(lambda: connect(url))
    name = running.begin(Order("purge", Filter(), WHO)).id
    eventually(lambda: background.get(full, name).status == "done")
    running.close()
    assert background.get(full, name).done == 1
