"""hurry.lua: a parked record becomes due, and stays where it is until it is promoted."""

from __future__ import annotations

import pytest

from conserver.queue import operator_calls
from tests.queues import Consumer, Queue, payloads, record

PARKED = "conserver:parked:q"


def due(queue: Queue) -> dict[bytes, int]:
    """Payload -> when it is due."""
    found = queue.client.zrange(PARKED, 0, -1, withscores=True)
    return {text.rpartition(b"\n")[2]: int(score) for text, score in found}


def test_a_parked_record_becomes_due_and_is_promoted_then(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.park(*one.take(2), after_ms=3_600_000)
    members = {text.rpartition(b"\n")[2]: text for text in queue.client.zrange(PARKED, 0, -1)}
    before = due(queue)
    assert queue.run(operator_calls.hurry("q", members[b"u1"], 7)) == 1
    assert due(queue) == {b"u1": 7, b"u2": before[b"u2"]}
    assert queue.promote("q", everything=False) == 1
    assert payloads(queue.returned()) == [b"u1"]
    assert payloads(queue.parked()) == [b"u2"]


def test_a_suspect_stays_a_suspect(queue: Queue) -> None:
    text = record("t1", "u1", flags="s")
    queue.client.zadd(PARKED, {text: 9_000_000_000_000})
    queue.run(operator_calls.hurry("q", text, 1))
    queue.promote("q", everything=False)
    assert (payloads(queue.suspects()), queue.returned()) == ([b"u1"], [])


@pytest.mark.parametrize("due_ms", [5, 7])
def test_what_is_due_already_is_left_alone(queue: Queue, due_ms: int) -> None:
    text = record("t1", "u1")
    queue.client.zadd(PARKED, {text: due_ms})
    assert queue.run(operator_calls.hurry("q", text, 7)) == 0
    assert due(queue) == {b"u1": due_ms}


def test_what_is_parked_no_more_is_not_parked_again(queue: Queue) -> None:
    # It would be in two places.
    queue.push("q", "u1")
    one = Consumer(queue)
    one.park(one.one(), after_ms=3_600_000)
    [text] = queue.client.zrange(PARKED, 0, -1)
    queue.promote("q")
    assert queue.run(operator_calls.hurry("q", text, 7)) == 0
    assert queue.places() == {("returned", b"u1"): 1}


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_key_of_another_type_is_left_alone(queue: Queue) -> None:
    queue.client.set(PARKED, "x")
    assert queue.run(operator_calls.hurry("q", record("t1", "u1"), 7)) == 0
    assert queue.client.get(PARKED) == b"x"


def test_its_job_tells_the_new_time(queue: Queue) -> None:
    queue.client.hset("conserver:job:j1", mapping={"status": "queued", "uuid": "u1", "list": "q"})
    queue.push("q", "u1#j1")
    one = Consumer(queue)
    one.park(one.one(), after_ms=3_600_000)
    [text] = queue.client.zrange(PARKED, 0, -1)
    seq = int(queue.client.hget("conserver:job:j1", "seq"))
    assert queue.run(operator_calls.hurry("q", text, 7)) == 1
    found = queue.client.hgetall("conserver:job:j1")
    assert (found[b"status"], found[b"retry_at_ms"]) == (b"waiting", b"7")
    assert int(found[b"seq"]) == seq + 1
