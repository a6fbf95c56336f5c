"""When documents expire: after a settle, as dead letters, and their revisions with them."""

from __future__ import annotations

import pytest

from tests.queues import FAR_MS, Consumer, Queue, document

OLD = document("u1", subject="old")
NEW = document("u1", subject="new")


def test_a_settled_document_expires_with_its_revision(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    one.settle(one.one(), expiry_s=3600)
    expected = queue.now_ms() + 3_600_000
    assert abs(queue.expires_ms("u1") - expected) < 2000
    assert abs(queue.key_expires_ms("conserver:revision:u1") - expected) < 2000


def test_a_settle_without_expiry_leaves_the_far_one(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    one.settle(one.one())
    assert abs(queue.expires_ms("u1") - FAR_MS) < 1000


@pytest.mark.parametrize("by", ["another chain", "its producer"])
def test_a_newer_document_gets_no_expiry_from_an_older_item(queue: Queue, by: str) -> None:
    # What was stored is the older one: the newer one is the only copy.
    queue.supply("q", "u1", "u1")
    one = Consumer(queue)
    older, newer = one.take(2)
    if by == "another chain":
        one.write(newer, NEW)
    else:
        queue.client.set("vcon:u1", NEW)
    one.settle(older, expiry_s=1)
    assert queue.expires_ms("u1") == -1 or abs(queue.expires_ms("u1") - FAR_MS) < 1000


def test_a_document_that_is_written_and_settled_in_one_call_expires(queue: Queue) -> None:
    queue.push("q", OLD)
    one = Consumer(queue)
    assert one.settle(one.one(), "out", body=NEW, uuid="u1", expiry_s=100).kind == "settled"
    assert queue.client.get("vcon:u1") == NEW
    assert abs(queue.expires_ms("u1") - queue.now_ms() - 100_000) < 2000
    assert queue.waiting("out") == [b"u1"]


def test_a_settle_that_writes_gives_back_a_newer_document_and_keeps_the_item(
    queue: Queue,
) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.set("vcon:u1", NEW)
    answer = one.settle(item, "out", body=OLD)
    assert (answer.kind, answer.text) == ("conflict", None)
    assert queue.waiting("out") == []
    assert len(queue.held("c1")) == 1
    item.revision = answer.revision
    assert one.settle(item, "out", body=OLD).kind == "settled"


def test_a_settle_that_meets_another_type_at_its_document_does_nothing(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.delete("vcon:u1")
    queue.client.hset("vcon:u1", "a", "b")
    answer = one.settle(item, "out", body=OLD)
    assert (answer.kind, answer.key, answer.found) == ("type", "vcon:u1", "hash")
    assert (queue.waiting("out"), len(queue.held("c1"))) == ([], 1)


def test_the_document_of_a_dead_letter_keeps_for_its_time(queue: Queue) -> None:
    queue.supply("q", "u1", "u2")
    one = Consumer(queue)
    first, second = one.take(2)
    one.dead_letter(first, keep_s=1000)
    one.dead_letter(second, keep_s=0)
    assert abs(queue.expires_ms("u1") - queue.now_ms() - 1_000_000) < 2000
    assert abs(queue.expires_ms("u2") - FAR_MS) < 1000


def test_the_expiry_of_a_dead_letter_does_not_touch_another_type(queue: Queue) -> None:
    queue.client.hset("vcon:u1", "a", "b")
    queue.push("q", "u1")
    one = Consumer(queue)
    assert one.dead_letter(one.one(), keep_s=10) == [b"moved"]
    assert queue.client.ttl("vcon:u1") == -1


@pytest.mark.parametrize("end", ["settled", "dead"])
def test_the_revision_of_a_deleted_document_does_not_stay_for_ever(queue: Queue, end: str) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.delete("vcon:u1")
    if end == "settled":
        one.settle(item, expiry_s=100, etags={"s3": "1"})
    else:
        one.dead_letter(item, keep_s=100)
    assert 0 < queue.client.ttl("conserver:revision:u1") <= 100


def test_a_document_that_was_deleted_and_comes_again_keeps_its_revision_as_long(
    queue: Queue,
) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.delete("vcon:u1")
    one.settle(item, expiry_s=100)
    queue.supply("q", "u1")
    again = one.one()
    assert again.revision > item.revision
    assert abs(queue.key_expires_ms("conserver:revision:u1") - FAR_MS) < 1000
    assert one.write(again, NEW).kind == "written"
