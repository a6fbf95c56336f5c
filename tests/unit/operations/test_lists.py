"""Lists: depths, pauses, and a drain that can be watched and stopped."""

from __future__ import annotations

import os
import time
from typing import Any

from redis import Redis
from redis.client import Pipeline

from conserver.operations import lists
from conserver.operations.lists import Draining
from conserver.operations.parked import Waits, waits
from conserver.queue import keys, script
from conserver.queue.operator_calls import Submission, submit
from conserver.queue.record import Progress
from tests.operators import Consumer


def test_names_begin_with_the_configuration(server: Any) -> None:
    """In its order; lists of the past follow."""
    server.sadd(keys.LISTS, "a", "z", "m")
    assert lists.names(server, ["z", "new"]) == ["z", "new", "a", "m"]


def test_depths_of_keys_of_another_type_are_unknown(server: Any) -> None:
    """And those beside them are known."""
    server.rpush("inbox", "u-1", "u-2")
    server.set(keys.dead_letters("inbox"), "x")
    depth = lists.depths(server, ["inbox"])["inbox"]
    assert (depth.queued, depth.returned, depth.dead) == (2, 0, None)


def test_what_parked_items_wait_for(server: Any) -> None:
    """Lists that have none are left out, and what is no record waits for no storage."""
    server.zadd(keys.parked("inbox"), {"junk": 0})
    assert waits(server, ["inbox", "other"]).keys() == {"inbox"}
    found = waits(server, ["inbox"])["inbox"]
    assert found == Waits(sampled=1, storages={}, retries=1, due_in_s=found.due_in_s)
    assert found.due_in_s < 0


def parked(slots: list[str], owed: list[str] | None = None) -> bytes:
    """A parked record with this progress."""
    state = Progress(links=["a"], rate_slots=slots, owed=owed).dump()
    head = f"\x01c.1.1 1 0 - 0 0 0 {len(state)} inbox\n".encode()
    return head + state + b"u-" + os.urandom(8).hex().encode()


def test_rates_and_throttled_links_are_told_apart(server: Any) -> None:
    waiting = [["link:asr"], ["throttled:hook"], ["throttled:hook"], []]
    server.zadd(keys.parked("inbox"), {parked(slots): 1 for slots in waiting})
    found = waits(server, ["inbox"])["inbox"]
    assert (found.rates, found.throttled, found.retries) == ({"link:asr": 1}, {"hook": 2}, 1)


def test_what_was_submitted_for_later_is_no_retry(server: Any) -> None:
    for uuid in ("u-1", "u-2"):
        one = Submission("inbox", uuid, "", b"{}", due_ms=int(time.time() * 1000) + 60_000)
        script.run(server, submit(one))
    server.zadd(keys.parked("inbox"), {parked([]): 1})
    found = waits(server, ["inbox"])["inbox"]
    assert (found.sampled, found.retries, found.later) == (3, 1, 2)


def test_what_many_lists_wait_for_takes_few_round_trips(server: Any) -> None:
    """As many for twenty lists as for one, whatever is parked; and no list is read beyond 200."""
    names = [f"l{number}" for number in range(20)]
    for name in names:
        server.zadd(keys.parked(name), {parked([], ["pg"]): at for at in range(250)})
    trips = 0
    execute = Pipeline.execute

    class Counting(Pipeline):
        def execute(self, raise_on_error: bool = True) -> Any:
            nonlocal trips
            trips += 1
            return execute(self, raise_on_error)

    class Client(Redis):
        def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
            callbacks = self.response_callbacks
            return Counting(self.connection_pool, callbacks, transaction, shard_hint)

    with Client(connection_pool=server.connection_pool) as client:
        found = waits(client, names)
    assert trips <= 8
    assert {name: (one.sampled, one.storages) for name, one in found.items()} == dict.fromkeys(
        names, (200, {"pg": 200})
    )


def test_a_pause_and_its_end(server: Any) -> None:
    """Only what was paused is resumed."""
    assert lists.pause(server, ["b", "a"], actor="me").paused == ["b", "a"]
    assert lists.paused(server) == ["a", "b"]
    assert lists.resume(server, ["a", "c"], actor="me", configured=["c"]).resumed == ["a"]
    assert lists.resume(server, [], actor="me").resumed == ["b"]
    assert [one.name for one in lists.unknown(server, ["a"])] == ["a"]


def test_a_drain_is_watched_until_nothing_is_in_flight(server: Any) -> None:
    """Each look says how much there still is; closing it leaves the lists paused."""
    server.rpush("inbox", "u-1")
    consumer = Consumer(server)
    items = consumer.claim()
    looks = lists.drain(server, [], timeout_s=60, actor="me")
    assert next(looks) == Draining(["inbox"], 1)
    consumer.release(items)
    assert list(looks)[-1] == Draining(["inbox"], 0)
    again = lists.drain(server, [], timeout_s=60, actor="me")
    next(again)
    again.close()
    assert lists.paused(server) == ["inbox"]


def test_a_drain_ends_with_its_time(server: Any) -> None:
    """The last look is at the end of it."""
    server.rpush("inbox", "u-1")
    Consumer(server).claim()
    assert [look.in_flight for look in lists.drain(server, [], timeout_s=0, actor="me")] == [1]
