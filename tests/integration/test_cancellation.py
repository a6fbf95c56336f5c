"""cancellation.py against a real Redis: every copy of a vCon, wherever it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conserver.queue import elements, keys, operator_calls
from conserver.queue.cancellation import CancelResult, cancel
from tests.queues import Consumer, Queue, document, opened, record


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    """An empty Redis."""
    with opened(redis_url) as made:
        yield made


def test_waiting_copies_are_removed_wherever_they_wait(queue: Queue) -> None:
    Consumer(queue, lists=("q", "r"))
    queue.push("q", "u1", "other", "u1")
    queue.push("r", "u1")
    queue.client.rpush("conserver:returned:q", record("t1", "u1"), "u1", record("t2", "other"))
    queue.suspect("u1", "r")
    queue.client.zadd("conserver:parked:q", {record("t3", "u1"): 1, record("t4", "other"): 2})
    found = cancel(queue.client, "u1")
    assert found == CancelResult(queued=3, returned=3, parked=1)
    assert found.total == 7
    assert set(queue.places("q", "r")) == {
        ("waiting", b"other"),
        ("returned", b"other"),
        ("parked", b"other"),
    }


def test_a_document_that_was_pushed_whole_is_found_by_its_uuid(queue: Queue) -> None:
    # It was left waiting: its payload is no uuid.
    Consumer(queue)
    queue.push("q", document("u1"), document("u2", about="u1"), "{not json", b"\xff")
    queue.client.zadd("conserver:parked:q", {record("t1", document("u1")): 1})
    assert cancel(queue.client, "u1") == CancelResult(queued=1, parked=1)
    assert queue.waiting() == [document("u2", about="u1"), b"{not json", b"\xff"]


def test_a_submission_with_a_job_is_found_by_its_uuid(queue: Queue) -> None:
    Consumer(queue)
    queue.push("q", "u1#job-1", "u1", "u10#job-1", "u2#u1")
    assert cancel(queue.client, "u1") == CancelResult(queued=2)
    assert queue.waiting() == [b"u10#job-1", b"u2#u1"]


def test_a_running_copy_is_named_to_its_worker(queue: Queue) -> None:
    queue.supply("q", "u1", "u2")
    consumer = Consumer(queue)
    items = {item.payload: item for item in consumer.take(2)}
    assert cancel(queue.client, "u1") == CancelResult(running=1)
    key = f"conserver:cancelled:{consumer.id}"
    assert queue.client.smembers(key) == {items[b"u1"].token.encode()}
    assert 86_000 < queue.client.ttl(key) <= 86_400
    assert len(queue.held(consumer.id)) == 2, "its worker ends it"


def test_copies_of_dead_hosts_are_left_to_be_returned(queue: Queue) -> None:
    queue.supply("q", "u1")
    consumer = Consumer(queue)
    consumer.one()
    queue.client.srem(keys.HOSTS, consumer.host)
    assert cancel(queue.client, "u1").total == 0


def test_an_item_that_ends_meanwhile_is_not_counted(queue: Queue) -> None:
    queue.supply("q", "u1")
    consumer = Consumer(queue)
    item = consumer.one()
    consumer.settle(item, "out")
    call = operator_calls.cancel(keys.inflight(consumer.id), item.token, "conserver:cancelled:c1")
    assert queue.run(call) == 0
    assert queue.client.exists("conserver:cancelled:c1") == 0


def test_nothing_is_remembered_of_the_uuid(queue: Queue) -> None:
    consumer = Consumer(queue)
    queue.push("q", "u1")
    cancel(queue.client, "u1")
    queue.push("q", "u1")
    assert consumer.one().payload == b"u1"


def test_dead_letters_are_left_alone(queue: Queue) -> None:
    queue.push("q", "u1")
    consumer = Consumer(queue)
    consumer.dead_letter(consumer.one())
    assert cancel(queue.client, "u1").total == 0
    assert queue.dead() == [b"u1"]


def test_keys_of_another_type_are_passed_over(queue: Queue) -> None:
    Consumer(queue, lists=("q", "bad"))
    queue.make_key("bad", "hash")
    queue.make_key("conserver:parked:bad", "string")
    queue.push("q", "u1")
    assert cancel(queue.client, "u1") == CancelResult(queued=1)


def test_long_lists_are_searched_to_their_end_in_pages(queue: Queue) -> None:
    Consumer(queue)
    names = [f"u{number % 7}" for number in range(elements.MOST * 2 + 50)]
    queue.push("q", *names)
    assert cancel(queue.client, "u3").queued == names.count("u3")
    assert queue.waiting() == [name.encode() for name in names if name != "u3"]
