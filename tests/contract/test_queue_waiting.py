"""waiting.lua: since when the oldest item of a list waits, whoever pushed it and whatever is done.

Time is made to pass by moving what the script has noted into the past.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from conserver.queue import host_calls, keys, operator_calls
from conserver.queue.operator_calls import Submission
from tests.queues import Consumer, Queue, document, record

NEVER_MS = 1_000_000


def age_s(queue: Queue, name: str = "q", every_ms: int = 0) -> float | None:
    """What is told now; the list is looked at if its last look is so old."""
    return host_calls.read_waiting([name], queue.run(host_calls.waiting([name], every_ms)))[name]


def minutes_pass(queue: Queue, minutes: float, name: str = "q") -> None:
    """All that was noted has been noted so much earlier."""
    state = noted(queue, name)
    by_ms = minutes * 60_000
    for field in ("at", "since", "none", "large", "head_at", "rest_until"):
        if field in state:
            state[field] -= by_ms
    for mark in state["marks"]:
        mark[0] -= by_ms
    queue.client.hset(keys.WAITING, name, json.dumps(state))


def noted(queue: Queue, name: str = "q") -> dict[str, Any]:
    """The state of a list."""
    found: dict[str, Any] = json.loads(queue.client.hget(keys.WAITING, name))
    return found


def minutes(seconds: float | None) -> int:
    """To the minute."""
    assert seconds is not None
    return round(seconds / 60)


def test_nothing_waits(queue: Queue) -> None:
    assert age_s(queue) == 0.0
    assert not queue.client.exists(keys.WAITING)


def test_an_empty_list_leaves_nothing_to_its_next_item(queue: Queue) -> None:
    """Even one with the same payload."""
    queue.push("q", "u1")
    age_s(queue)
    minutes_pass(queue, 30)
    assert minutes(age_s(queue)) == 30
    queue.client.lpop("q")
    assert age_s(queue) == 0.0
    assert not queue.client.exists(keys.WAITING)
    queue.push("q", "u1")
    assert minutes(age_s(queue)) == 0


def test_it_grows_while_nobody_takes_anything(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    assert minutes(age_s(queue)) == 0
    minutes_pass(queue, 30)
    assert minutes(age_s(queue)) == 30
    queue.push("q", "u3")
    minutes_pass(queue, 10)
    assert minutes(age_s(queue)) == 40


def test_it_is_that_of_the_first_element_while_the_list_moves(queue: Queue) -> None:
    """A list that is always full, served at the rate at which it is pushed to."""
    queue.push("q", *(f"u{n}" for n in range(15)))
    told = []
    for turn in range(1, 8):
        age_s(queue)
        minutes_pass(queue, 1)
        queue.push("q", *(f"u{turn}.{n}" for n in range(5)))
        queue.client.lpop("q", 5)  # Also what another consumer takes is seen.
        told.append(minutes(age_s(queue)))
    # Five go every minute, and behind the first one are ten.
    assert told[2:] == [2, 2, 2, 2, 2]


def test_it_falls_to_that_of_what_is_left(queue: Queue) -> None:
    for name, wait in (("old", 60), ("middle", 20), ("new", 5)):
        queue.push("q", name)
        age_s(queue)
        minutes_pass(queue, wait)
    assert minutes(age_s(queue)) == 85
    queue.client.lpop("q")
    assert minutes(age_s(queue)) == 25
    queue.client.lpop("q")
    assert minutes(age_s(queue)) == 5
    queue.client.lpop("q")
    assert age_s(queue) == 0.0
    queue.push("q", "newest")
    assert minutes(age_s(queue)) == 0


def test_many_marks_are_thinned_out_and_the_ages_stay_near_the_truth(queue: Queue) -> None:
    for number in range(300):
        queue.push("q", f"u{number}")
        age_s(queue)
        minutes_pass(queue, 1)
    assert len(noted(queue)["marks"]) <= 48
    for left in (300, 200, 100, 30):
        queue.client.ltrim("q", -left, -1)
        told = minutes(age_s(queue))
        assert 0.75 * left <= told <= left, f"the oldest of {left} is {left} minutes old"


def test_a_job_has_the_time_of_its_submission(queue: Queue) -> None:
    """Also where nobody has looked until now."""
    queue.run(operator_calls.submit(Submission("q", "u1", job="j1", body=document("u1"))))
    old_ms = int(queue.client.hget(keys.job("j1"), "created_ms")) - 7_200_000
    queue.client.hset(keys.job("j1"), "created_ms", old_ms)
    assert minutes(age_s(queue)) == 120


def test_a_job_that_came_back_is_no_older_than_its_place(queue: Queue) -> None:
    """Its submission may be long ago: a dead letter that was pushed again."""
    queue.push("q", "u0")
    age_s(queue)
    minutes_pass(queue, 1)
    queue.client.lpop("q")
    queue.client.hset(keys.job("j1"), "created_ms", 1)
    queue.push("q", "u1#j1")
    assert minutes(age_s(queue)) == 1


def test_records_have_the_time_of_their_first_claim(queue: Queue) -> None:
    seconds, _ = queue.client.time()
    seen_ms = (seconds - 3600) * 1000
    for key in (keys.returned("q"), keys.suspects("q")):
        text = record("c1.1.1", "u1", "q").replace(b" 1700000000000 ", b" %d " % seen_ms)
        queue.client.rpush(key, text)
        assert minutes(age_s(queue)) == 60
        queue.client.delete(key)


def test_an_item_that_a_list_waiter_has_moved_still_waits(queue: Queue) -> None:
    queue.push("q", "u1")
    age_s(queue)
    minutes_pass(queue, 15)
    queue.client.lmove("q", keys.returned("q"), "LEFT", "RIGHT")
    assert minutes(age_s(queue)) == 15


def test_documents_are_not_kept_and_count_from_the_head(queue: Queue) -> None:
    body = document("u1", subject="x" * 10_000, name="Ann")
    queue.push("q", body, document("u2"))
    age_s(queue)
    assert b"Ann" not in queue.client.hget(keys.WAITING, "q")
    minutes_pass(queue, 3)
    assert minutes(age_s(queue)) == 3
    queue.client.lpop("q")
    assert minutes(age_s(queue)) == 0


def test_a_look_is_not_repeated_before_its_time(queue: Queue) -> None:
    queue.push("q", "u1")
    age_s(queue)
    before = noted(queue)
    assert age_s(queue, every_ms=NEVER_MS) is not None
    assert noted(queue) == before


def test_nothing_of_an_item_changes(queue: Queue) -> None:
    queue.supply("q", "u1", "u2")
    one = Consumer(queue)
    one.take(1)
    before = queue.places()
    age_s(queue)
    assert queue.places() == before


@pytest.mark.parametrize("key", ["q", "conserver:returned:q", "conserver:suspects:q"])
def test_a_key_of_another_type_makes_it_unknown(queue: Queue, key: str) -> None:
    queue.make_key(key, "string")
    assert age_s(queue) is None


def test_what_was_noted_may_be_anything(queue: Queue) -> None:
    queue.push("q", "u1")
    for junk in ("", "[]", "{", "7", '{"marks": 1}', '{"marks": [1], "at": "x"}'):
        queue.client.hset(keys.WAITING, "q", junk)
        assert minutes(age_s(queue)) == 0


def test_hostile_elements_are_only_signed(queue: Queue) -> None:
    queue.push("q", b"\xff\x00\n", b"\x01not a record", "%s#..", "{}")
    assert minutes(age_s(queue)) == 0
    minutes_pass(queue, 4)
    assert minutes(age_s(queue)) == 4
