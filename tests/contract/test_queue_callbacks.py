"""Callbacks: the script that ends the item of a job pushes what is to be told of that end.

Whatever ends an item goes through here: a settle, a dead letter, poison, a cancel, the return of a
cancelled item. An end without its notification, or two of them, must not be possible.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import redis
from redis.exceptions import ResponseError

from conserver.process.messages import Blame
from conserver.queue import calls, keys, operator_calls
from conserver.queue.operator_calls import Submission
from conserver.queue.record import Source, parse
from tests.contract.test_queue_jobs import job_of, status_of
from tests.queues import Consumer, Queue, document

JOB = "conserver:job:j1"
ALL = "cancelled completed failed filtered"


@pytest.fixture
def one(queue: Queue) -> Consumer:
    """A consumer."""
    return Consumer(queue)


def submit(
    queue: Queue, on: str = ALL, job: str = "j1", until_ms: int = 0, **rest: Any
) -> list[bytes]:
    """Submit a small document with a callback."""
    fields: list[tuple[str, str | bytes | int]] = [("callback", b"secret"), ("callback_on", on)]
    if until_ms:
        fields.append(("callback_until_ms", until_ms))
    one = Submission("q", "u1", job, document("u1"), fields=fields, **rest)
    return list(queue.run(operator_calls.submit(one)))


def notifications(queue: Queue) -> list[dict[str, Any]]:
    """What is to be told, the oldest first."""
    return [
        orjson.loads(payload)["notification"]
        for payload in queue.client.lrange(keys.NOTIFICATIONS, 0, -1)
    ]


def now_ms() -> int:
    return int(time.time() * 1000)


# ---- every end is told, by the script that ends ----


@pytest.mark.parametrize("status", ["completed", "filtered", "cancelled"])
def test_a_settle_tells_its_end(queue: Queue, one: Consumer, status: str) -> None:
    submit(queue, keep_s=50)
    one.settle(one.one(), "out", status=status)
    [payload] = queue.client.lrange(keys.NOTIFICATIONS, 0, -1)
    found = orjson.loads(payload)
    assert (found["vcon"], found["uuid"]) == ("0.4.0", "u1")
    told = found["notification"]
    assert (told["job"], told["status"], told["list"]) == ("j1", status, "q")
    assert told["seq"] == int(job_of(queue)["seq"])
    assert told["error"] == ""
    assert told["created_ms"] <= told["ended_ms"] <= now_ms() + 1000
    assert b"secret" not in payload
    assert job_of(queue)["notification"] == "queued"
    assert queue.client.ttl(JOB) > 600_000, "it is kept until that was told"


def test_a_dead_letter_tells_its_error(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.dead_letter(one.one(), why='a "quoted"\n\\ reason, grüße')
    [told] = notifications(queue)
    assert told["status"] == "failed"
    assert orjson.loads(told["error"]) == {"reason": 'a "quoted"\n\\ reason, grüße'}


def test_poison_tells_its_error(queue: Queue) -> None:
    submit(queue)
    one = Consumer(queue, max_deliveries=1)
    one.one()
    queue.return_items(one, Blame("everything"))
    two = Consumer(queue, "c2", max_deliveries=1)
    two.begin(two.one())
    queue.return_items(two, Blame("everything"))
    three = Consumer(queue, "c3", max_deliveries=1)
    three.refuse(three.one())
    [told] = notifications(queue)
    assert orjson.loads(told["error"])["reason"] == "poison"


def test_what_an_operator_cancelled_is_told_when_it_ends(queue: Queue, one: Consumer) -> None:
    submit(queue)
    item = one.one()
    queue.run(operator_calls.cancel("conserver:inflight:c1", item.token, "conserver:cancelled:c1"))
    assert notifications(queue) == []
    queue.return_items(one)
    assert [told["status"] for told in notifications(queue)] == ["cancelled"]


@pytest.mark.parametrize("where", ["q", "conserver:returned:q", "conserver:parked:q"])
def test_what_is_cancelled_while_it_waits_is_told(queue: Queue, one: Consumer, where: str) -> None:
    submit(queue)
    element = waiting_in(queue, one, where)
    assert queue.run(operator_calls.cancel(where, element)) == 1
    assert [told["status"] for told in notifications(queue)] == ["cancelled"]
    assert queue.run(operator_calls.cancel(where, element)) == 0
    assert len(notifications(queue)) == 1


def waiting_in(queue: Queue, one: Consumer, where: str) -> bytes:
    """The element of a job's item, after it has come to that key."""
    if where == "q":
        return b"u1#j1"
    if where == "conserver:returned:q":
        one.one()
        queue.return_items(one)
        return bytes(queue.client.lindex(where, 0))
    one.park(one.one())
    return bytes(queue.client.zrange(where, 0, 0)[0])


@pytest.mark.parametrize("end", ["park", "release"])
def test_what_is_no_end_is_not_told(queue: Queue, one: Consumer, end: str) -> None:
    submit(queue)
    getattr(one, end)(one.one())
    assert notifications(queue) == []


# ---- once, and only what was asked for ----


def test_only_the_ends_that_were_asked_for_are_told(queue: Queue, one: Consumer) -> None:
    submit(queue, on="failed", keep_s=50)
    one.settle(one.one())
    assert notifications(queue) == []
    assert 40 < queue.client.ttl(JOB) <= 50
    assert "notification" not in job_of(queue)


def test_a_job_without_a_callback_has_no_notification(queue: Queue, one: Consumer) -> None:
    queue.run(operator_calls.submit(Submission("q", "u1", "j1", document("u1"))))
    one.settle(one.one())
    assert not queue.client.exists(keys.NOTIFICATIONS)


def test_an_end_that_is_executed_twice_is_told_once(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.settle(one.one())
    one.again()
    assert len(notifications(queue)) == 1


@pytest.mark.parametrize("end", ["settle", "dead_letter"])
def test_who_was_given_up_tells_nothing(queue: Queue, one: Consumer, end: str) -> None:
    submit(queue)
    item = one.one()
    queue.return_items(one)
    Consumer(queue, "c2").one()
    getattr(one, end)(item)
    assert notifications(queue) == []


def test_two_items_under_one_job_have_one_end_and_one_notification(
    queue: Queue, one: Consumer
) -> None:
    submit(queue)
    queue.push("q", "u1#j1")
    first, second = one.take(2)
    one.settle_all([one.settlement(first), one.settlement(second)])
    assert len(notifications(queue)) == 1
    assert queue.held("c1") == []


def test_after_a_replay_the_next_end_is_told_too(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.dead_letter(one.one())
    queue.replay("q")
    one.settle(one.one())
    first, second = notifications(queue)
    assert (first["status"], second["status"]) == ("failed", "completed")
    assert first["seq"] < second["seq"]
    assert job_of(queue)["notification_seq"] == str(second["seq"])


def test_a_delivery_has_no_job_and_so_no_delivery_of_its_own(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.settle(one.one())
    before = job_of(queue)
    notifier = Consumer(queue, "c2", lists=(keys.NOTIFICATIONS,))
    item = notifier.one()
    assert (item.source, item.job) == (Source.INLINE, "")
    notifier.dead_letter(item, why="nobody there")
    queue.replay(keys.NOTIFICATIONS)
    again = notifier.one()
    assert again.payload == item.payload
    notifier.settle(again, uuid="u1", status="filtered")
    assert not queue.client.exists(keys.NOTIFICATIONS)
    assert job_of(queue) == before
    assert queue.client.get("vcon:u1") == document("u1")


# ---- a presigned URL that has expired ----


def test_a_job_whose_presigned_url_has_expired_fails_before_it_begins(
    queue: Queue, one: Consumer
) -> None:
    submit(queue, until_ms=now_ms() - 90_000)
    item = one.one()
    assert item.refused is not None
    assert (item.refused[0], item.refused[1][:1]) == ("expired", "9")
    refused = one.refuse(item)
    assert refused.reason == "rejected"
    assert "callback expired 9" in refused.message
    assert status_of(queue) == "failed"
    assert [told["status"] for told in notifications(queue)] == ["failed"]
    assert queue.dead() == [b"u1"]


def test_one_that_has_not_expired_yet_runs(queue: Queue, one: Consumer) -> None:
    submit(queue, until_ms=now_ms() + 90_000)
    item = one.one()
    assert (item.job, item.source, item.refused) == ("j1", Source.STORED, None)


def test_what_was_done_already_is_not_thrown_away(queue: Queue, one: Consumer) -> None:
    submit(queue, until_ms=now_ms() + 3_600_000)
    one.park(one.one(), state=b'{"links":["transcribe"]}')
    queue.client.hset(JOB, "callback_until_ms", now_ms() - 1000)
    queue.promote("q")
    item = one.one()
    assert (item.state, item.refused) == (b'{"links":["transcribe"]}', None)


# ---- a key that another program made ----

Act = Callable[[Queue, Consumer], Any]


def settled(_queue: Queue, one: Consumer) -> Any:
    answer = one.settle(one.one())
    assert (answer.kind, answer.key, answer.found) == ("type", keys.NOTIFICATIONS, "string")


def dead_lettered(_queue: Queue, one: Consumer) -> Any:
    assert one.dead_letter(one.one()) == [f"string {keys.NOTIFICATIONS}".encode()]


def cancelled(queue: Queue, _one: Consumer) -> Any:
    with pytest.raises(ResponseError, match=f"WRONGTYPE {keys.NOTIFICATIONS}"):
        queue.run(operator_calls.cancel("q", b"u1#j1"))


def returned(queue: Queue, one: Consumer) -> Any:
    item = one.one()
    queue.run(operator_calls.cancel("conserver:inflight:c1", item.token, "conserver:cancelled:c1"))
    with pytest.raises(ResponseError, match=f"WRONGTYPE {keys.NOTIFICATIONS}"):
        queue.return_items(one)


@pytest.mark.real_redis("an error inside its scripts has no text")
@pytest.mark.parametrize("act", [settled, dead_lettered, cancelled, returned])
def test_an_end_that_cannot_be_told_does_not_happen(queue: Queue, one: Consumer, act: Act) -> None:
    submit(queue)
    queue.make_key(keys.NOTIFICATIONS, "string")
    act(queue, one)
    assert status_of(queue) in ("queued", "processing", "waiting")
    assert sum(queue.places().values()) == 1
    queue.client.delete(keys.NOTIFICATIONS)


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_items_without_a_callback_go_on_meanwhile(queue: Queue, one: Consumer) -> None:
    queue.make_key(keys.NOTIFICATIONS, "string")
    queue.run(operator_calls.submit(Submission("q", "u1", "j1", document("u1"))))
    queue.supply("q", "u2")
    for item in one.take(2):
        assert one.settle(item).kind == "settled"
    assert status_of(queue) == "completed"


@pytest.mark.real_redis("it has no ACL")
def test_a_user_without_a_command_of_jobs_still_tells(queue: Queue) -> None:
    """HINCRBY is missing: the change has no number, and its time stands for it."""
    rules = ["~*", "&*", "+@all", "-hincrby"]
    submit(queue)
    queue.client.execute_command("ACL", "SETUSER", "old", "reset", "on", ">pass", *rules)
    try:
        known = queue.client.connection_pool.connection_kwargs
        where = {name: known[name] for name in ("host", "port", "db")}
        limited = Queue(redis.Redis(**where, username="old", password="pass"))
        one = Consumer(limited)
        one.settle(one.one())
        assert [told["seq"] > 1_000_000 for told in notifications(queue)] == [True]
    finally:
        queue.client.execute_command("ACL", "DELUSER", "old")


# ---- what became of it ----


def told(queue: Queue, seq: int, what: str = "delivered", error: bytes = b"") -> int:
    return int(queue.run(calls.told("j1", seq, what, error)))


def test_a_delivery_shows_on_its_job_what_became_of_it(queue: Queue, one: Consumer) -> None:
    submit(queue, keep_s=50)
    one.settle(one.one())
    [notification] = notifications(queue)
    assert told(queue, notification["seq"], "failed", b'{"error":"gone"}') == 1
    assert (job_of(queue)["notification"], job_of(queue)["notification_error"]) == (
        "failed",
        '{"error":"gone"}',
    )
    assert queue.client.ttl(JOB) > 600_000, "its dead letter may be replayed"
    assert told(queue, notification["seq"]) == 1
    assert job_of(queue)["notification"] == "delivered"
    assert 40 < queue.client.ttl(JOB) <= 50


def test_the_delivery_of_an_earlier_end_says_nothing(queue: Queue, one: Consumer) -> None:
    submit(queue)
    one.dead_letter(one.one())
    [first] = notifications(queue)
    queue.replay("q")
    before = job_of(queue)
    assert told(queue, first["seq"]) == 0
    one.settle(one.one())
    assert told(queue, first["seq"]) == 0
    assert before["notification"] == job_of(queue)["notification"] == "queued"


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_job_that_is_gone_or_of_another_type_does_not_come_back(queue: Queue) -> None:
    assert told(queue, 1) == 0
    queue.make_key(JOB, "list")
    assert told(queue, 1) == 0
    assert queue.client.type(JOB) == b"list"


def test_deliveries_are_records_like_all_others(queue: Queue, one: Consumer) -> None:
    """Killed and returned, one keeps its payload."""
    submit(queue)
    one.settle(one.one())
    notifier = Consumer(queue, "c2", lists=(keys.NOTIFICATIONS,))
    item = notifier.one()
    queue.return_items(notifier, Blame("everything"))
    [text] = queue.client.lrange(f"conserver:suspects:{keys.NOTIFICATIONS}", 0, -1)
    assert parse(text).payload == item.payload
