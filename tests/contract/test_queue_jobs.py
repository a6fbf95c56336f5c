"""Jobs: a submission that somebody follows, from its making to its one end.

What is looked at is the job's hash, beside the place where its item is: the two must tell the same
story after every script.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import redis

from conserver.process.messages import Blame
from conserver.queue import calls, operator_calls
from conserver.queue.calls import Hint
from conserver.queue.operator_calls import Submission
from conserver.queue.record import split_job
from tests.queues import Consumer, Queue, document

JOB = "conserver:job:j1"
ENDS = ("completed", "filtered", "cancelled", "failed")


@pytest.fixture
def one(queue: Queue) -> Consumer:
    """A consumer."""
    return Consumer(queue)


def submit(queue: Queue, job: str = "j1", uuid: str = "u1", **rest: Any) -> list[bytes]:
    """Submit a small document."""
    body = rest.pop("body", document(uuid))
    return list(queue.run(operator_calls.submit(Submission("q", uuid, job, body, **rest))))


def job_of(queue: Queue, job: str = "j1") -> dict[str, str]:
    """Its hash."""
    found = queue.client.hgetall(f"conserver:job:{job}")
    return {name.decode(): value.decode() for name, value in found.items()}


def status_of(queue: Queue, job: str = "j1") -> str:
    """Its status; "" where it is not known."""
    return job_of(queue, job).get("status", "")


@pytest.fixture
def events(queue: Queue) -> Iterator[Any]:
    """What is published of any job: a function that gives all so far, as (job, message)."""
    pubsub = queue.client.pubsub(ignore_subscribe_messages=True)
    pubsub.psubscribe("conserver:events:*")
    pubsub.get_message(timeout=60)

    def heard() -> list[tuple[str, str]]:
        # Whatever was published before has come once this has.
        queue.client.publish("conserver:events:so far", "")
        found: list[tuple[str, str]] = []
        while True:
            message = pubsub.get_message(timeout=60)
            channel = message["channel"].decode().removeprefix("conserver:events:")
            if channel == "so far":
                return found
            found.append((channel, message["data"].decode()))

    yield heard
    pubsub.close()


# ---- submitting ----


def test_a_submission_stores_makes_and_pushes_in_one_step(queue: Queue) -> None:
    assert submit(queue, fields=[("by", "ann"), ("callback", "x")]) == [b"queued"]
    assert queue.waiting() == [b"u1#j1"]
    assert queue.client.get("vcon:u1") == document("u1")
    found = job_of(queue)
    assert (found["list"], found["uuid"], found["status"]) == ("q", "u1", "queued")
    assert (found["by"], found["callback"], found["seq"]) == ("ann", "x", "1")
    assert queue.client.zrange("conserver:jobs", 0, -1) == [b"j1"]
    assert 604_000 < queue.client.ttl(JOB) <= 604_800


def test_a_submission_without_a_job_is_a_plain_push(queue: Queue) -> None:
    assert submit(queue, job="") == [b"queued"]
    assert queue.waiting() == [b"u1"]
    assert not queue.client.exists("conserver:jobs")


def test_the_same_submission_twice_is_one(queue: Queue, one: Consumer) -> None:
    submit(queue)
    assert submit(queue, uuid="u2") == [b"exists", b"u1", b"q", b"queued"]
    one.settle(one.one())
    assert submit(queue) == [b"exists", b"u1", b"q", b"completed"]
    assert queue.waiting() == []


def test_a_list_at_its_cap_takes_nothing(queue: Queue) -> None:
    submit(queue, job="a", most=1)
    assert submit(queue, most=1, uuid="u2") == [b"full", b"1"]
    assert not queue.client.exists(JOB, "vcon:u2")


@pytest.mark.parametrize("kind", ["string", "hash"])
def test_a_list_of_another_type_takes_nothing(queue: Queue, kind: str) -> None:
    queue.make_key("q", kind)
    assert submit(queue) == [b"type", b"q", kind.encode()]
    assert not queue.client.exists(JOB, "vcon:u1")


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_job_of_another_type_takes_nothing(queue: Queue) -> None:
    queue.make_key(JOB, "string")
    assert submit(queue) == [b"type", JOB.encode(), b"string"]
    assert not queue.client.exists("vcon:u1", "q")


def test_a_large_document_is_moved_and_lives_on(queue: Queue, one: Consumer) -> None:
    body = document("u1", text="x" * 100_000)
    queue.client.set("conserver:upload:7", body, ex=60)
    assert submit(queue, body=b"", source="conserver:upload:7") == [b"queued"]
    assert queue.client.get("vcon:u1") == body
    assert queue.client.ttl("vcon:u1") == -1
    assert not queue.client.exists("conserver:upload:7")
    assert one.one().length == len(body)


def test_a_document_that_has_expired_meanwhile_is_told(queue: Queue) -> None:
    answer = submit(queue, body=b"", source="conserver:upload:7")
    assert answer == [b"gone", b"conserver:upload:7"]
    assert not queue.client.exists(JOB, "q")


def test_it_replaces_the_document_that_was_there(queue: Queue, one: Consumer) -> None:
    submit(queue, job="a")
    first = one.one()
    submit(queue, body=document("u1", subject="newer"))
    assert one.write(first, document("u1", subject="mine")).kind == "conflict"


def test_what_is_due_later_waits_parked_until_then(queue: Queue, one: Consumer) -> None:
    far_ms = 4_000_000_000_000
    assert submit(queue, due_ms=far_ms) == [b"waiting"]
    [item] = queue.parked()
    assert (item.payload, item.job, item.first_seen_ms) == (b"u1", "j1", far_ms)
    assert (
        queue.client.zscore(
            "conserver:parked:q", queue.client.zrange("conserver:parked:q", 0, 0)[0]
        )
        == far_ms
    )
    assert (status_of(queue), job_of(queue)["retry_at_ms"]) == ("waiting", str(far_ms))
    assert one.claim().items == []
    assert queue.promote("q") == 1
    assert (status_of(queue), job_of(queue)["retry_at_ms"]) == ("queued", "")
    assert one.one().job == "j1"


def test_a_job_of_later_is_known_as_long_from_then_on_as_others(
    queue: Queue, one: Consumer
) -> None:
    due_s = 30 * 86_400
    seconds, _ = queue.client.time()
    submit(queue, due_ms=1000 * (seconds + due_s), keep_s=70, max_s=700)
    assert due_s + 690 < queue.client.ttl("conserver:job:j1") <= due_s + 701
    queue.promote("q")
    one.settle(one.one())
    assert status_of(queue) == "completed"
    assert 0 < queue.client.ttl("conserver:job:j1") <= 70


def test_what_was_due_already_is_queued(queue: Queue) -> None:
    assert submit(queue, due_ms=1) == [b"queued"]


# ---- the way of an item ----


def test_a_claim_splits_the_payload_and_knows_the_job(queue: Queue, one: Consumer) -> None:
    submit(queue)
    item = one.one()
    assert (item.payload, item.job) == (b"u1", "j1")
    assert item.text == document("u1")
    assert status_of(queue) == "processing"


def test_a_job_pushed_by_hand_gets_its_hash_at_the_claim(queue: Queue) -> None:
    one = Consumer(queue, limits=calls.ClaimLimits(job_keep_s=7, job_max_s=70))
    queue.supply("q", "u1")
    queue.push("q", "u1#by.hand_1-x")
    one.take(2)
    found = job_of(queue, "by.hand_1-x")
    assert (found["uuid"], found["list"], found["status"]) == ("u1", "q", "processing")
    assert (found["keep_s"], found["max_s"]) == ("7", "70")
    assert 60 < queue.client.ttl("conserver:job:by.hand_1-x") <= 70


@pytest.mark.parametrize("payload", ["u1#", "#j", "u1#a b", "u1#" + "x" * 65, "u1#a/b", "u1"])
def test_what_is_no_job_stays_a_payload(queue: Queue, one: Consumer, payload: str) -> None:
    queue.push("q", payload)
    item = one.one()
    assert (item.payload, item.job) == (payload.encode(), "")
    assert not list(queue.client.scan_iter("conserver:job*"))
    assert split_job(payload.encode()) == (payload.encode(), "")


def test_a_document_has_no_job_whatever_it_ends_with(queue: Queue, one: Consumer) -> None:
    body = b'{"uuid":"u1","vcon":"0.3.0"} #j1'
    queue.push("q", body)
    assert one.one().payload == body
    assert split_job(body) == (body, "")


@pytest.mark.parametrize("status", ["completed", "filtered", "cancelled"])
def test_an_item_that_is_settled_ends_its_job(queue: Queue, one: Consumer, status: str) -> None:
    submit(queue, keep_s=50)
    one.settle(one.one(), "out", status=status)
    assert status_of(queue) == status
    assert queue.client.lrange("out", 0, -1) == [b"u1"], "what leaves is the bare uuid"
    assert 40 < queue.client.ttl(JOB) <= 50


def test_a_dead_letter_fails_its_job_with_the_reason(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.dead_letter(one.one(), why="broken")
    assert status_of(queue) == "failed"
    assert orjson.loads(job_of(queue)["error"]) == {"reason": "broken"}
    assert queue.dead() == [b"u1"], "other tools replay bare uuids"


def test_poison_fails_its_job(queue: Queue) -> None:
    one = Consumer(queue, max_deliveries=1)
    submit(queue)
    one.one()
    queue.return_items(one, Blame("everything"))
    queue.return_items(one)
    two = Consumer(queue, "c2", max_deliveries=1)
    suspect = two.one()
    two.begin(suspect)
    assert status_of(queue) == "processing"
    queue.return_items(two, Blame("everything"))
    assert status_of(queue) == "queued"
    three = Consumer(queue, "c3", max_deliveries=1)
    three.refuse(three.one())
    assert status_of(queue) == "failed"
    assert orjson.loads(job_of(queue)["error"])["reason"] == "poison"


def test_what_is_parked_waits_until_then_and_for_that(queue: Queue, one: Consumer) -> None:
    submit(queue)
    item = one.one()
    why = b'{"storages":["pg"]}'
    queue.run(
        calls.move("park", "c1", [calls.Move(item.token, item.epoch, after_ms=50_000, why=why)])
    )
    found = job_of(queue)
    assert (found["status"], found["error"]) == ("waiting", why.decode())
    [(_, due_ms)] = queue.client.zrange("conserver:parked:q", 0, -1, withscores=True)
    assert int(found["retry_at_ms"]) == due_ms


def test_what_is_released_goes_back_with_its_job(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.release(one.one())
    assert queue.waiting() == [b"u1#j1"]
    assert status_of(queue) == "queued"


def test_what_a_dead_worker_held_is_queued_again(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.one()
    queue.return_items(one)
    assert status_of(queue) == "queued"
    [item] = queue.returned()
    assert item.job == "j1"


def test_a_stray_is_queued_again(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.one()
    one.holds.clear()
    one.stray()
    assert status_of(queue) == "queued"


def test_what_an_operator_cancelled_ends_with_its_worker(queue: Queue, one: Consumer) -> None:
    submit(queue)
    item = one.one()
    queue.run(operator_calls.cancel("conserver:inflight:c1", item.token, "conserver:cancelled:c1"))
    assert status_of(queue) == "processing", "its link may still finish"
    queue.return_items(one)
    assert status_of(queue) == "cancelled"


@pytest.mark.parametrize("where", ["waiting", "returned", "parked"])
def test_cancelling_what_waits_ends_its_job(queue: Queue, one: Consumer, where: str) -> None:
    submit(queue)
    key, element = "q", b"u1#j1"
    if where == "returned":
        one.one()
        queue.return_items(one)
        key = "conserver:returned:q"
        [element] = queue.client.lrange(key, 0, -1)
    elif where == "parked":
        one.park(one.one())
        key = "conserver:parked:q"
        [element] = queue.client.zrange(key, 0, -1)
    assert queue.run(operator_calls.cancel(key, element)) == 1
    assert status_of(queue) == "cancelled"
    assert queue.run(operator_calls.cancel(key, element)) == 0


def test_cancelling_what_has_left_ends_nothing(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.one()
    queue.push("q", "another")
    assert queue.run(operator_calls.cancel("q", b"u1#j1")) == 0
    assert status_of(queue) == "processing"


def test_a_replay_is_the_one_way_out_of_an_end(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.dead_letter(one.one())
    assert queue.replay("q") == "returned"
    found = job_of(queue)
    assert (found["status"], found["error"]) == ("queued", "")
    assert queue.client.ttl(JOB) > 600_000, "it is no longer about to expire"
    one.settle(one.one())
    assert status_of(queue) == "completed"


# ---- one end, and no more ----


def test_a_job_has_one_end(queue: Queue, one: Consumer) -> None:
    """Two items under one job (somebody pushed it twice): the first end counts."""
    submit(queue)
    queue.push("q", "u1#j1")
    first, second = one.take(2)
    one.settle(first)
    assert queue.run(calls.hint("c1", [Hint(second.token, second.epoch, "tag", b"", 0)])) == 0
    one.dead_letter(second)
    queue.replay("q")
    one.one()
    assert status_of(queue) == "completed"


def test_two_submissions_of_one_vcon_are_two_jobs(queue: Queue, one: Consumer) -> None:
    submit(queue, job="a")
    submit(queue, job="b")
    first, second = one.take(2)
    one.settle(first)
    one.dead_letter(second)
    assert (status_of(queue, "a"), status_of(queue, "b")) == ("completed", "failed")


@pytest.mark.parametrize("end", ["settle", "dead_letter", "park", "release"])
def test_who_was_given_up_ends_nothing(queue: Queue, one: Consumer, end: str) -> None:
    submit(queue)
    item = one.one()
    queue.return_items(one)
    two = Consumer(queue, "c2")
    two.one()
    getattr(one, end)(item)
    assert status_of(queue) == "processing"


def test_a_job_that_has_expired_does_not_come_back(queue: Queue, one: Consumer) -> None:
    submit(queue)
    item = one.one()
    queue.client.delete(JOB)
    queue.run(calls.hint("c1", [Hint(item.token, item.epoch, "tag", b"", 0)]))
    one.settle(item)
    assert not queue.client.exists(JOB)


@pytest.mark.real_redis("an error inside its scripts has no text")
@pytest.mark.parametrize("end", ["settle", "dead_letter", "park", "release"])
def test_a_job_of_another_type_keeps_no_item(queue: Queue, one: Consumer, end: str) -> None:
    submit(queue)
    item = one.one()
    queue.client.delete(JOB, "conserver:jobs")
    queue.make_key(JOB, "list")
    queue.make_key("conserver:jobs", "string")
    getattr(one, end)(item)
    assert queue.held("c1") == []
    assert sum(queue.places().values()) == (0 if end == "settle" else 1)


@pytest.mark.real_redis("it has no ACL")
@pytest.mark.parametrize("end", ["settle", "dead_letter", "park", "release"])
def test_a_user_who_may_not_write_jobs_loses_no_item(queue: Queue, end: str) -> None:
    """Such as one that is limited to the commands of a version without jobs."""
    rules = ["~*", "&*", "+@all", "-hincrby"]
    queue.client.execute_command("ACL", "SETUSER", "old", "reset", "on", ">pass", *rules)
    try:
        known = queue.client.connection_pool.connection_kwargs
        where = {name: known[name] for name in ("host", "port", "db")}
        limited = Queue(redis.Redis(**where, username="old", password="pass"))
        queue.supply("q", "u1", "u2")
        queue.push("q", "u1#j1")
        one = Consumer(limited)
        items = one.take(3)
        assert [item.job for item in items] == ["", "", "j1"]
        for item in items:
            getattr(one, end)(item)
        assert limited.held("c1") == []
        assert sum(queue.places().values()) == (0 if end == "settle" else 3)
    finally:
        queue.client.execute_command("ACL", "DELUSER", "old")


def test_a_list_of_jobs_of_another_type_keeps_no_submission(queue: Queue, one: Consumer) -> None:
    queue.make_key("conserver:jobs", "string")
    assert submit(queue) == [b"queued"]
    assert one.one().job == "j1"


# ---- hints and events ----


def test_a_hint_shows_how_far_an_item_is(queue: Queue, one: Consumer) -> None:
    submit(queue)
    item = one.one()
    progress = b'{"done":3,"total":10,"unit":"s"}'
    assert queue.run(calls.hint("c1", [Hint(item.token, item.epoch, "stt", progress, 2)])) == 1
    found = job_of(queue)
    assert (found["link"], found["progress"], found["attempts"]) == ("stt", progress.decode(), "2")
    assert found["status"] == "processing"


def test_a_hint_of_somebody_else_or_after_the_end_says_nothing(queue: Queue, one: Consumer) -> None:
    submit(queue)
    item = one.one()
    late = calls.hint("c1", [Hint(item.token, item.epoch, "stt", b"", 0)])
    assert queue.run(calls.hint("c1", [Hint(item.token, item.epoch + 1, "stt", b"", 0)])) == 0
    assert queue.run(calls.hint("c2", [Hint(item.token, item.epoch, "stt", b"", 0)])) == 0
    one.settle(item)
    before = job_of(queue)
    assert queue.run(late) == 0
    assert job_of(queue) == before


def test_every_change_is_published_under_its_number(
    queue: Queue, one: Consumer, events: Any
) -> None:
    submit(queue)
    item = one.one()
    queue.run(calls.hint("c1", [Hint(item.token, item.epoch, "stt", b"", 0)]))
    one.settle(item)
    expected = ["1 queued", "2 processing", "3 processing", "4 completed"]
    assert events() == [("j1", text) for text in expected]
    assert job_of(queue)["seq"] == "4"


def test_an_item_without_a_job_publishes_and_keeps_nothing(
    queue: Queue, one: Consumer, events: Any
) -> None:
    queue.supply("q", "u1", "u2")
    first, second = one.take(2)
    one.settle(first)
    one.dead_letter(second)
    assert events() == []
    assert not list(queue.client.scan_iter("conserver:job*"))


@pytest.mark.real_redis("it is too slow for a hundred thousand jobs")
def test_the_list_of_jobs_is_capped(queue: Queue) -> None:
    queue.client.execute_command(
        "EVAL",
        "for n = 1, 100000 do redis.call('ZADD', KEYS[1], n, 'old-' .. n) end",
        1,
        "conserver:jobs",
    )
    submit(queue)
    assert queue.client.zcard("conserver:jobs") == 100_000
    assert queue.client.zscore("conserver:jobs", "old-1") is None
    assert queue.client.zscore("conserver:jobs", "j1") is not None
