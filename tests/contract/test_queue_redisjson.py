"""Documents that are RedisJSON values: they are read, and stay what they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conserver.queue import calls, operator_calls
from conserver.queue.record import Source
from tests.queues import Consumer, Queue, document, opened

OLD = document("u1", subject="old")
NEW = document("u1", subject="new")
LARGE = document("u1", subject="x" * 300_000)


@pytest.fixture
def json_queue(json_redis_url: str) -> Iterator[Queue]:
    """The queue in a Redis that knows RedisJSON."""
    with opened(json_redis_url) as found:
        yield found


def json_set(queue: Queue, uuid: str, body: bytes) -> None:
    queue.client.execute_command("JSON.SET", f"vcon:{uuid}", "$", body)


def test_a_redisjson_document_is_read(json_queue: Queue) -> None:
    json_set(json_queue, "u1", OLD)
    json_queue.push("q", "u1")
    item = Consumer(json_queue).one()
    assert (item.source, item.text) == (Source.STORED, OLD)
    assert item.revision > 0


def test_a_large_redisjson_document_is_carried_because_get_cannot_read_it(
    json_queue: Queue,
) -> None:
    json_set(json_queue, "u1", LARGE)
    json_queue.push("q", "u1")
    item = Consumer(json_queue).one()
    assert (item.source, item.text) == (Source.STORED, LARGE)


def test_a_redisjson_document_stays_one_when_it_is_written(json_queue: Queue) -> None:
    json_set(json_queue, "u1", OLD)
    json_queue.push("q", "u1", "u1")
    one = Consumer(json_queue)
    item, other = one.take(2)
    written = one.write(item, NEW)
    assert written.kind == "written"
    assert json_queue.client.type("vcon:u1") == b"ReJSON-RL"
    assert json_queue.client.execute_command("JSON.GET", "vcon:u1") == NEW
    assert calls.read_answers(one.again()) == [written]
    conflict = one.write(other, OLD)
    assert (conflict.kind, conflict.text, conflict.revision) == ("conflict", NEW, written.revision)
    one.settle(item, expiry_s=100)
    assert 0 < json_queue.client.ttl("vcon:u1") <= 100


@pytest.mark.parametrize("script", ["write", "settle"])
def test_a_document_that_redisjson_refuses_harms_no_neighbour(
    json_queue: Queue, script: str
) -> None:
    deep = b'{"a":' * 200 + b"1" + b"}" * 200
    for uuid in ("u1", "u2", "u3"):
        json_set(json_queue, uuid, OLD)
    json_queue.push("q", "u1", "u2", "u3")
    one = Consumer(json_queue)
    items = one.take(3)
    bodies = [NEW, deep, NEW]
    if script == "write":
        entries = [
            calls.Write(i.token, i.epoch, i.payload.decode(), i.revision, "chain", b"", body)
            for i, body in zip(items, bodies, strict=True)
        ]
        answers = calls.read_answers(json_queue.run(calls.write(one.id, 1, entries)))
        assert [answer.kind for answer in answers] == ["written", "refused", "written"]
    else:
        ends = [one.settlement(i, "out", body=body) for i, body in zip(items, bodies, strict=True)]
        answers = calls.read_answers(json_queue.run(calls.settle(one.id, ends)))
        assert [answer.kind for answer in answers] == ["settled", "refused", "settled"]
        assert [item.token for item in json_queue.held(one.id)] == [items[1].token]
    assert answers[1].found
    texts = [json_queue.client.execute_command("JSON.GET", f"vcon:u{n}") for n in (1, 2, 3)]
    assert texts == [NEW, OLD, NEW]


def test_a_change_of_a_redisjson_document_is_seen_by_its_text(json_queue: Queue) -> None:
    json_set(json_queue, "u1", OLD)
    json_queue.push("q", "u1", "u1", "u1")
    one = Consumer(json_queue)
    first = one.one()
    assert one.one().revision == first.revision
    json_queue.client.execute_command("JSON.SET", "vcon:u1", "$.subject", '"new"')
    conflict = one.write(first, OLD)
    assert (conflict.kind, conflict.text) == ("conflict", NEW)
    assert one.one().revision == conflict.revision > first.revision


def test_a_document_that_changes_its_kind_is_a_new_one(json_queue: Queue) -> None:
    json_queue.store("u1", OLD)
    json_queue.push("q", "u1", "u1")
    one = Consumer(json_queue)
    first = one.one()
    json_queue.client.delete("vcon:u1")
    json_set(json_queue, "u1", OLD)
    assert one.one().revision > first.revision


def test_a_return_that_reads_cancelled_documents_is_bounded_by_their_bytes(
    json_queue: Queue,
) -> None:
    """To let a document expire, the script reads it, and other clients of Redis wait meanwhile."""
    for number in range(8):
        json_set(json_queue, f"u{number}", document(f"u{number}", subject="x" * 400_000))
        json_queue.push("q", f"u{number}")
    one = Consumer(json_queue, limits=calls.ClaimLimits(most_bytes=100_000_000))
    for item in one.take(8):
        key, cancelled = f"conserver:inflight:{one.id}", f"conserver:cancelled:{one.id}"
        json_queue.run(operator_calls.cancel(key, item.token.encode(), cancelled))
    steps = [json_queue.return_items(one, keep_s=3600) for _ in range(4)]
    assert [(step.cancelled, step.left) for step in steps] == [(3, 5), (3, 2), (2, 0), (0, 0)]
