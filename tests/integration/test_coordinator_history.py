"""What coordinators write down of each list, and what operators ask of one host's coordinator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import orjson
import pytest
import redis

from conserver.coordinator.connections import Connections
from conserver.coordinator.history_recorder import LEASE_S, HistoryRecorder
from conserver.errors import OperationError
from conserver.operations import audit, reload, workers
from conserver.operations import history as operations
from conserver.queue import history, keys
from conserver.queue.history import COARSE, FINE, POINT_BYTES
from conserver.telemetry import log, metrics
from tests.coordination import FakeHost, fake_host
from tests.helpers import eventually

STEP_S = FINE.step_s


@pytest.fixture
def make(redis_url: str) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda **arguments: stack.enter_context(fake_host(redis_url, **arguments))


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as made:
        yield made


class Writers:
    """Coordinators of several hosts, as far as history goes; each writes when the test says so."""

    def __init__(self, url: str) -> None:
        self._url = url

    def write(self, *rounds: Sequence[tuple[str, int]]) -> None:
        """Each round: (host, number of the point) of those that write, in their order."""

        async def run() -> None:
            connections = Connections(self._url)
            made: dict[str, HistoryRecorder] = {}
            for one in rounds:
                for host, number in one:
                    if host not in made:
                        made[host] = HistoryRecorder(
                            connections, host, {"calls": "main"}, log.get_logger()
                        )
                    writer = made[host]
                    assert await writer._may_write() == (host == one[0][0])
                    if host == one[0][0]:
                        await writer._write_point(number)
            for writer in made.values():
                await writer._connection.close()

        asyncio.run(run())


def beat(client: Any, host: str, done: float, failed: float = 0, took: Any = ()) -> None:
    """What a host's beat says: two items held, and what the chain `main` has done.

    took: bucket of the durations -> how many.
    """
    buckets = [0.0] * (len(metrics.ITEM_S.buckets) + 1)
    for bucket, count in dict(took).items():
        buckets[bucket] = count
    fields = {
        "workers": orjson.dumps([{"slot": 1, "pid": 7, "held": 2}]),
        "chains": orjson.dumps({"main": [done, failed, *buckets]}),
    }
    client.sadd(keys.HOSTS, host)
    client.hset(keys.host(host), mapping=fields)


def points(client: Any, name: str, number: int, count: int = 3) -> list[Any]:
    past = operations.read(client, name, "1h", (number + 1) * STEP_S - 1)
    rows = zip(*(past.lines[field] for field in history.FIELDS), strict=True)
    return list(rows)[-count:]


def test_a_coordinator_writes_and_everybody_reads_the_same(make: Any, client: Any) -> None:
    host: FakeHost = make(lists=("calls",))
    client.rpush("calls", *["0" * 36] * 7)
    client.zadd(keys.parked("calls"), {"x": time.time() * 1000 + 1e6})
    host.start()

    def written() -> bool:
        return any(value == 7 for value in operations.read(client, "calls").lines["waiting"])

    eventually(written)
    past = operations.read(client, "")
    assert max(value for value in past.lines["parked"] if value is not None) == 1
    [line] = operations.last_hour(client, ["calls"]).values()
    assert len(line) == 60
    assert max(value for value in line if value is not None) == 7
    assert client.get(keys.HISTORY_WRITER) == host.id.encode()
    assert 0 < client.ttl(keys.HISTORY_WRITER) <= LEASE_S
    assert 0 < client.ttl(FINE.key("calls")) <= FINE.keep_s


def test_only_one_of_several_hosts_writes_and_rates_are_those_of_all(
    client: Any, redis_url: str
) -> None:
    number = int(time.time()) // STEP_S
    beat(client, "a", 100)
    beat(client, "b", 50)
    writers = Writers(redis_url)

    def later() -> None:
        beat(client, "a", 120)
        beat(client, "b", 80, failed=5, took={3: 90, 8: 10})

    writers.write([("a", number - 1), ("b", number - 1)])
    client.delete(keys.HISTORY_WRITER)
    assert points(client, "", number - 1, 1)[0][4] is None  # Nobody knows what was before.

    async def two_rounds() -> None:
        writer = HistoryRecorder(Connections(redis_url), "a", {"calls": "main"}, log.get_logger())
        await writer._write_point(number - 1)
        later()
        await writer._write_point(number)
        # Written again, by another one or late, it stays what it is.
        await writer._store(FINE, number, {})
        await writer._connection.close()

    asyncio.run(two_rounds())
    [point] = points(client, "", number, 1)
    assert point[3:6] == (4.0, 5.0, 0.5)
    assert metrics.ITEM_S.buckets[2] < point[6] < metrics.ITEM_S.buckets[3]
    assert metrics.ITEM_S.buckets[7] < point[7] < metrics.ITEM_S.buckets[8]
    [of_list] = points(client, "calls", number, 1)
    assert of_list[4:] == point[4:]


def test_a_host_that_was_started_again_counts_from_nothing(client: Any, redis_url: str) -> None:
    number = int(time.time()) // STEP_S

    async def run() -> None:
        writer = HistoryRecorder(Connections(redis_url), "a", {}, log.get_logger())
        beat(client, "a", 1000)
        await writer._write_point(number - 1)
        beat(client, "a", 30)
        await writer._write_point(number)
        await writer._connection.close()

    asyncio.run(run())
    assert points(client, "", number, 1)[0][4] == 3.0


def test_a_host_that_meters_nothing_tells_what_all_have_done(client: Any, redis_url: str) -> None:
    number = int(time.time()) // STEP_S

    def beat_of(pid: int, done: int) -> None:
        client.sadd(keys.HOSTS, "a")
        worker = {"slot": 1, "pid": pid, "done": done, "failed": 1, "held": 0}
        client.hset(keys.host("a"), mapping={"workers": orjson.dumps([worker]), "chains": "{}"})

    async def run() -> None:
        writer = HistoryRecorder(Connections(redis_url), "a", {"calls": "main"}, log.get_logger())
        beat_of(7, 100)
        await writer._write_point(number - 2)
        beat_of(7, 150)
        await writer._write_point(number - 1)
        beat_of(8, 20)  # It was replaced, and counts from nothing.
        await writer._write_point(number)
        await writer._connection.close()

    asyncio.run(run())
    assert [point[4] for point in points(client, "", number, 2)] == [5.0, 2.0]
    [of_list] = points(client, "calls", number, 1)
    assert of_list[4:] == (None, None, None, None)


def test_five_minutes_become_one_point_for_two_weeks(client: Any, redis_url: str) -> None:
    per_coarse = COARSE.step_s // STEP_S
    end = int(time.time()) // COARSE.step_s * per_coarse  # the first point of this one
    for at in range(per_coarse):
        number = end - per_coarse + at
        raw = history.pack(number, (float(at), 0, 0, 0, 2, 0, 0.5, float(at)))
        client.setrange(FINE.key("calls"), FINE.offset(number), raw)

    async def run() -> None:
        writer = HistoryRecorder(Connections(redis_url), "a", {"calls": "main"}, log.get_logger())
        await writer._write_point(end)
        await writer._connection.close()

    asyncio.run(run())
    past = operations.read(client, "calls", "14d", end * STEP_S)
    known = [at for at, value in enumerate(past.lines["waiting"]) if value is not None]
    assert len(known) == 1
    row = known[0]
    assert past.lines["done_per_s"][row] == 2
    assert past.lines["p95_s"][row] == per_coarse - 1


def test_a_ring_takes_what_the_documentation_says_and_never_grows(
    client: Any, redis_url: str
) -> None:
    async def run() -> None:
        writer = HistoryRecorder(Connections(redis_url), "a", {}, log.get_logger())
        for number in (5, FINE.points + 4, FINE.points + 5, 10 * FINE.points):
            for ring in (FINE, COARSE):
                await writer._store(ring, number, {"calls": [1.0] * 8})
        await writer._connection.close()

    asyncio.run(run())
    for ring in (FINE, COARSE):
        assert client.strlen(ring.key("calls")) == ring.points * POINT_BYTES
    taken = sum(client.memory_usage(ring.key("calls")) for ring in (FINE, COARSE))
    assert taken < 285_000


def test_a_key_of_another_type_costs_its_own_list_only(client: Any, redis_url: str) -> None:
    number = int(time.time()) // STEP_S
    client.set(keys.returned("calls"), "odd")
    client.sadd(keys.LISTS, "other")
    client.rpush("other", "x", "y")

    async def run() -> None:
        writer = HistoryRecorder(Connections(redis_url), "a", {"calls": "main"}, log.get_logger())
        await writer._write_point(number)
        await writer._connection.close()

    asyncio.run(run())
    assert points(client, "other", number, 1)[0][0] == 2


# ---- workers that operators want replaced --------------------------------------------------------


def test_an_order_to_replace_a_worker_reaches_the_supervisor_once(make: Any, client: Any) -> None:
    host: FakeHost = make(workers=2).start()
    host.send_state()
    eventually(lambda: len(host.status().get("workers", [])) == 2)
    done = workers.recycle(client, host.id, 2, actor="ops")
    assert (done.slot, done.held) == (2, 0)
    message = host.wait_for("recycle")
    assert (message["slot"], message["consumer"]) == (2, host.workers[1].consumer)
    assert not client.hexists(keys.CONTROL, keys.recycle(host.id, 2))
    assert [(one.actor, one.action) for one in audit.recent(client)] == [("ops", "recycle")]


@pytest.mark.parametrize(("host", "slot"), [("none", 1), ("", 1), ("same", 9)])
def test_a_worker_that_is_not_there_is_not_replaced(
    make: Any, client: Any, host: str, slot: int
) -> None:
    there: FakeHost = make().start()
    there.beats_on(1)
    with pytest.raises(OperationError, match="there is no worker") as raised:
        workers.recycle(client, there.id if host == "same" else host, slot, actor="ops")
    assert raised.value.kind == "not_found"
    assert not client.hgetall(keys.CONTROL)


def test_orders_for_another_host_are_left_to_it(make: Any, client: Any) -> None:
    host: FakeHost = make()
    client.hset(keys.CONTROL, keys.recycle("another", 1), "someone")
    host.start()
    host.beats_on(2)
    assert client.hgetall(keys.CONTROL) == {b"recycle:another:1": b"someone"}


def test_a_request_to_reload_reaches_the_supervisor_once_and_is_answered(
    make: Any, client: Any
) -> None:
    host: FakeHost = make().start()
    host.send_state()
    host.beats_on(1)
    request = reload.ask(client, actor="ops")
    assert host.wait_for("reload")["request"] == request
    assert not client.hgetall(keys.CONTROL)
    eventually(lambda: [one.status for one in reload.answers(client, request)] == ["asked"])
    host.send_state(reload={"request": request, "at": 3.5, "refused": "no list"})
    [answer] = reload.wait(client, request, timeout_s=20)
    assert (answer.status, answer.at, answer.reason) == ("refused", 3.5, "no list")
    assert answer.id == host.id
    # Whoever asked before has the answer too: the file was read after that.
    before = f"{int(request[:11], 16) - 1:011x}-00000000"
    client.hset(keys.host(host.id), "started_at", "1")
    assert reload.answers(client, before) == [answer]
