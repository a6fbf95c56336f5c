"""What an item costs in Redis: commands per item of a batch, round trips per item and per batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from conserver.process import wakeup
from conserver.queue import calls, keys, operator_calls
from conserver.vcon.document import Vcon
from tests.conftest import unique
from tests.guards.counting import Commands, commands, figure
from tests.helpers import eventually
from tests.queues import Consumer, Queue, document, opened
from tests.workers import RunningWorker, SteppedWorker, link, nothing, storage, tag

BATCH = 32
HOUR_MS = 3_600_000


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    """An empty Redis that has loaded the scripts."""
    with opened(redis_url) as made:
        warm = Consumer(made, "warm")
        made.push("warm", document("warm"))
        item = Consumer(made, "warm", lists=("warm",)).one()
        warm.write(item, document("warm"), uuid="warm")
        warm.settle(item)
        made.client.flushdb()
        yield made


def per_item(counted: Commands) -> float:
    """Commands per item, without the few that a call makes once."""
    return counted.inside // BATCH


def show(name: str, counted: Commands, items: int = BATCH) -> None:
    """Print the figures of a batch, command by command."""
    each = ", ".join(f"{key} {value / items:.2f}" for key, value in counted.counts.most_common())
    figure(name, counted.inside / items, f"commands per item: {each}")


@pytest.mark.parametrize(("known", "most"), [(False, 5), (True, 4)])
def test_a_claim(queue: Queue, known: bool, most: int) -> None:
    uuids = [f"u{number}" for number in range(BATCH)]
    consumer = Consumer(queue)
    queue.supply("q", *uuids)
    if known:
        consumer.release(*consumer.take(BATCH))
    with commands(queue.client) as counted:
        consumer.take(BATCH)
    show(f"claim, documents known: {known}", counted)
    assert counted.of("evalsha") == 1
    assert per_item(counted) <= most


def test_a_write(queue: Queue) -> None:
    uuids = [f"u{number}" for number in range(BATCH)]
    consumer = Consumer(queue)
    queue.supply("q", *uuids)
    items = consumer.take(BATCH)
    entries = [
        calls.Write(one.token, one.epoch, uuid, one.revision, "chain", b"{}", document(uuid))
        for one, uuid in zip(items, uuids, strict=True)
    ]
    with commands(queue.client) as counted:
        queue.run(calls.write(consumer.id, 1, entries))
    show("write", counted)
    assert counted.of("evalsha") == 1
    assert per_item(counted) <= 5


@pytest.mark.parametrize(
    ("body", "expires", "most"), [(False, False, 0), (False, True, 6), (True, False, 5)]
)
def test_a_settle(queue: Queue, body: bool, expires: bool, most: int) -> None:
    uuids = [f"u{number}" for number in range(BATCH)]
    consumer = Consumer(queue)
    queue.supply("q", *uuids)
    entries = [
        consumer.settlement(
            item,
            "out",
            body=document(uuid) if body else b"",
            expiry_s=3600 if expires else 0,
        )
        for item, uuid in zip(consumer.take(BATCH), uuids, strict=True)
    ]
    with commands(queue.client) as counted:
        consumer.settle_all(entries)
    show(f"settle, with body: {body}, expires: {expires}", counted)
    assert counted.of("evalsha") == 1
    assert counted.of("rpush", "hdel") <= 2, "one of each for the whole batch"
    assert per_item(counted) <= most


@pytest.mark.parametrize(("callback", "most"), [(False, 6), (True, 10)])
def test_a_settle_of_jobs(queue: Queue, callback: bool, most: int) -> None:
    """Only a callback costs more, and the place for notifications is looked at once per call."""
    consumer = Consumer(queue)
    told: list[tuple[str, str | bytes | int]] = [("callback_on", "completed")] if callback else []
    for number in range(BATCH):
        body = document(f"u{number}")
        one = operator_calls.Submission("q", f"u{number}", f"j{number}", body, fields=told)
        queue.run(operator_calls.submit(one))
    entries = [consumer.settlement(item, "out") for item in consumer.take(BATCH)]
    with commands(queue.client) as counted:
        consumer.settle_all(entries)
    show(f"settle of jobs, with callback: {callback}", counted)
    assert queue.client.llen(keys.NOTIFICATIONS) == (BATCH if callback else 0)
    assert counted.of("type") <= 2
    assert per_item(counted) <= most


def test_a_claim_of_many_lists_that_are_empty(queue: Queue) -> None:
    lists = tuple(f"q{number}" for number in range(200))
    consumer = Consumer(queue, lists=lists)
    queue.supply("q199", *(f"u{number}" for number in range(BATCH)))
    with commands(queue.client) as counted:
        assert len(consumer.claim(BATCH).items) == BATCH
    figure("claim, 200 lists", counted.inside / 200, "commands per list")
    assert counted.inside <= 200 * 4 + BATCH * 7


def add(vcon: Vcon, _context: Any) -> Vcon:
    """A link that adds an analysis in each run."""
    vcon.add_analysis({"type": "more", "body": "x", "encoding": "none"})
    return vcon


# ---- the worker's round trips --------------------------------------------------------------------


def top(counted: Commands) -> int:
    """Round trips: script calls and MGETs (scripts themselves use GET)."""
    return counted.of("evalsha", "eval", "mget")


# An item that waits or runs for a second costs more: it is released, or has a checkpoint.
@pytest.mark.real_time
@pytest.mark.parametrize(
    ("links", "stores", "trips"),
    [
        ([("a", nothing, {})], False, 2),  # claim, settle
        ([("a", tag, {})], False, 2),
        ([("a", nothing, {})], True, 2),
        ([("a", tag, {})], True, 3),  # and a write
        ([("a", tag, {"costly": True}), ("b", add, {})], True, 4),  # and a checkpoint
    ],
)
def test_one_item_through_an_idle_worker(
    redis_url: str, links: list[Any], stores: bool, trips: int
) -> None:
    count = 20
    worker = RunningWorker(
        redis_url,
        links=[link(name, run, **fields) for name, run, fields in links],
        storages=[storage(unique("shelf-"))] if stores else [],
        tick_interval_ms=HOUR_MS,
    )
    with worker:
        eventually(lambda: wakeup.IDLE in b"".join(worker.sent_to_coordinator()))
        one_by_one(worker, 3)  # loads the scripts
        with commands(worker.client) as counted:
            one_by_one(worker, count)
    assert top(counted) == trips * count, f"{counted.counts}"


def one_by_one(worker: RunningWorker, count: int) -> None:
    """Push an item and wake the worker, until the item has arrived and the worker is idle again; as
    often as `count`.
    """
    for _ in range(count):
        [uuid] = worker.supply(1)
        worker.coordinator.send(wakeup.WAKE)
        eventually(lambda: worker.out()[-1:] == [uuid])  # noqa: B023 - it is called at once
        eventually(lambda: wakeup.IDLE in b"".join(worker.sent_to_coordinator()))


Make = Callable[..., SteppedWorker]


@pytest.mark.parametrize(("stores", "trips"), [(False, 3), (True, 4)])
def test_a_batch_is_read_written_and_ended_at_once(
    redis_url: str, stores: bool, trips: int
) -> None:
    with ExitStack() as stack:
        worker = stack.enter_context(
            SteppedWorker(
                redis_url,
                links=[link("a", tag)],
                storages=[storage(unique("shelf-"))] if stores else [],
            )
        )

        def batch(count: int) -> None:
            worker.supply(count)
            worker.run(*worker.claim())
            worker.flush()
            if stores:
                worker.store()

        batch(1)
        with commands(worker.client) as counted:
            batch(calls.BATCH_ITEMS)
        assert len(worker.out()) == calls.BATCH_ITEMS + 1
        assert top(counted) == trips, f"{counted.counts}, repeats {worker.redis.repeats}"
        show(f"a tag, storages: {stores}", counted, calls.BATCH_ITEMS)


def test_a_busy_worker_works_in_batches(redis_url: str) -> None:
    # How large the batches are depends on timing, but most must have more than one item.
    worker = RunningWorker(redis_url, links=[link("a", tag)], log_level="WARNING")
    uuids = worker.supply(1000)
    with commands(worker.client) as counted, worker:
        eventually(lambda: len(worker.out()) == len(uuids), 60)
    figure("a busy worker", top(counted) / len(uuids), "round trips per item")
    assert top(counted) <= len(uuids) / 2


@pytest.mark.parametrize("jobs", [False, True])
def test_what_a_story_costs(redis_url: str, jobs: bool) -> None:
    """An item without a job costs nothing more; one of a job three commands, and no round trip."""
    with SteppedWorker(redis_url, links=[link("a", tag)]) as worker:

        def batch(name: str) -> None:
            uuids = worker.supply(calls.BATCH_ITEMS, "aside")
            worker.client.rpush("in", *(f"{uuid}#{name}{uuid}" if jobs else uuid for uuid in uuids))
            worker.run(*worker.claim())
            worker.flush()

        batch("warm")
        worker.story_writer.flush()
        with commands(worker.client) as counted:
            batch("job")
            worker.claim_if_due()  # The next call of the loop takes the stories along.
            worker.receive()
            worker.claim_if_due()
        assert counted.of("ping") == 0
        stories = worker.client.keys("conserver:story:*")
        assert len(stories) == (2 * calls.BATCH_ITEMS if jobs else 0)
        if not jobs:
            assert counted.of("zadd", "zremrangebyrank", "expire") == 0
        sizes_bytes = [worker.client.memory_usage(key) for key in stories] or [0]
        size_bytes = sum(sizes_bytes) / len(sizes_bytes)
        figure("a story", size_bytes, "bytes")
        assert size_bytes < 1400
