"""Trying parked items now, and emptying lists: which items are meant, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from conserver.errors import InvalidArgumentError
from conserver.operations import audit, waiting
from conserver.operations.dead_letter_moves import Progress
from conserver.operations.waiting import WaitingFilter
from conserver.queue import keys
from conserver.queue.operator_calls import Submission, submit
from tests.queues import Consumer, Queue, document, opened, record

FAR_MS = 9_000_000_000_000
PARKED = keys.parked("q")


def state(**fields: Any) -> bytes:
    return orjson.dumps(fields)


def parked(uuid: str, **fields: Any) -> bytes:
    """A record with such a state."""
    return record(f"c.{uuid}.1", uuid, state=state(**fields))


RETRY = parked("retry", attempts=1, error="the CRM answered 500")
STORAGE = parked("storage", links=["a"], owed=["s3"])
RATE = parked("rate", slots=["link:a"])
AGAIN = parked("again", slots=["again:link:a"])
THROTTLED = parked("throttled", slots=["throttled:a"])
LATER = record("submitted.1.0", "later").replace(b" 1 0 - ", b" 0 0 - ", 1)
EVERY = (RETRY, STORAGE, RATE, AGAIN, THROTTLED, LATER)


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    """A Redis in which the list q is known, with one item parked for each cause."""
    with opened(redis_url) as made:
        Consumer(made)
        made.client.zadd(PARKED, dict.fromkeys(EVERY, FAR_MS))
        yield made


def end(steps: Iterator[Progress]) -> Progress:
    *_, last = steps
    return last


def due(queue: Queue) -> set[bytes]:
    """The payloads that are due now."""
    found = queue.client.zrangebyscore(PARKED, 0, FAR_MS - 1)
    return {text.rpartition(b"}")[2].rpartition(b"\n")[2] for text in found}


@pytest.mark.parametrize(
    ("wanted", "meant", "left_out"),
    [
        (WaitingFilter(), {b"retry", b"storage"}, {"rate": 2, "throttled": 1, "later": 1}),
        (WaitingFilter(names=("q",), causes=("retry",)), {b"retry"}, {}),
        (WaitingFilter(causes=("storage",)), {b"storage"}, {}),
        (WaitingFilter(causes=("later",)), {b"later"}, {}),
        (WaitingFilter(uuids=("storage", "rate")), {b"storage"}, {"rate": 1}),
        (WaitingFilter(storage="s3"), {b"storage"}, {}),
        (WaitingFilter(storage="pg"), set(), {}),
        (WaitingFilter(error="crm ANSW.red"), {b"retry"}, {}),
        (WaitingFilter(names=("other",)), set(), {}),
        (
            WaitingFilter(older_s=60),
            {b"retry", b"storage"},
            {"rate": 2, "throttled": 1, "later": 1},
        ),
    ],
)
def test_which_parked_items_are_tried_now(
    queue: Queue, wanted: WaitingFilter, meant: set[bytes], left_out: dict[str, int]
) -> None:
    counted = end(waiting.retry(queue.client, wanted, dry_run=True, actor="me"))
    assert (counted.done, counted.matching, counted.left_out) == (0, len(meant), left_out)
    assert (due(queue), audit.recent(queue.client)) == (set(), [])
    last = end(waiting.retry(queue.client, wanted, actor="me"))
    assert (last.done, last.matching, last.left_out) == (len(meant), len(meant), left_out)
    assert due(queue) == meant
    assert queue.client.zcard(PARKED) == len(EVERY)
    told = [(one.actor, one.action, one.count) for one in audit.recent(queue.client)]
    assert told == ([("me", "retry", len(meant))] if meant else [])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (WaitingFilter(causes=("rate",)), "not hurried: its rate has no place"),
        (WaitingFilter(causes=("throttled",)), "not hurried: the server asked"),
        (WaitingFilter(causes=("retries",)), "did you mean `retry`"),
        (WaitingFilter(places=("queued",)), "only parked items"),
        (WaitingFilter(error="("), "no regular expression"),
    ],
)
def test_what_cannot_be_tried_now(queue: Queue, wanted: WaitingFilter, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        end(waiting.retry(queue.client, wanted, actor="me"))


def test_many_are_tried_up_to_a_limit_and_until_somebody_stops_it(queue: Queue) -> None:
    queue.client.delete(PARKED)
    queue.client.zadd(PARKED, {parked(f"u{n}", attempts=1): FAR_MS + n // 50 for n in range(300)})
    last = end(waiting.retry(queue.client, WaitingFilter(), limit=120, actor="me"))
    assert (last.done, last.total, len(due(queue))) == (120, 300, 120)
    steps = waiting.retry(queue.client, WaitingFilter(), actor="me")
    assert [next(steps).done for _ in range(11)] == list(range(11))
    steps.close()
    assert len(due(queue)) == 130
    assert [one.count for one in audit.recent(queue.client)] == [10, 120]
    assert end(waiting.retry(queue.client, WaitingFilter(), actor="me")).done == 170


def test_one_that_fails_again_meanwhile_is_not_tried_again(queue: Queue) -> None:
    queue.client.delete(PARKED)
    queue.client.zadd(PARKED, {parked("u1", attempts=1): FAR_MS})
    for step in waiting.retry(queue.client, WaitingFilter(), actor="me"):
        if step.done:  # A worker has tried it and parked it, as it does every time from now on.
            queue.client.delete(PARKED)
            queue.client.zadd(PARKED, {parked("u1", attempts=2): FAR_MS})
    assert (step.done, due(queue)) == (1, set())


def test_a_key_of_another_type_has_nothing(queue: Queue) -> None:
    queue.client.delete(PARKED)
    queue.client.set(PARKED, "x")
    assert end(waiting.retry(queue.client, WaitingFilter(), actor="me")) == Progress(0, 0, 0)
    last = end(waiting.empty(queue.client, WaitingFilter(names=("q",)), actor="me"))
    assert last == Progress(0, 0, 0)


# ---- emptying ------------------------------------------------------------------------------------


@pytest.fixture
def full(queue: Queue) -> Queue:
    """The same, with items in all places where they wait, and with one that runs and one dead."""
    one = Consumer(queue)
    queue.supply("q", "runs", "dead")
    held = {item.payload: item for item in one.take(2)}
    one.dead_letter(held[b"dead"], why="failed")
    queue.supply("q", "u1", "u2", "u1")
    queue.push("q", document("u3"))
    queue.client.rpush(keys.returned("q"), record("c.5.1", "back"))
    queue.suspect("s1")
    return queue


def where(queue: Queue) -> set[str]:
    """The places in which something is."""
    return {place for place, _ in queue.places()}


@pytest.mark.parametrize(
    ("wanted", "count", "left"),
    [
        ({}, 12, {"held", "dead"}),
        ({"places": ("queued",)}, 4, {"returned", "suspects", "parked", "held", "dead"}),
        ({"places": ("parked", "suspects")}, 7, {"waiting", "returned", "held", "dead"}),
        ({"causes": ("storage", "retry")}, 2, None),
        ({"uuids": ("u1", "u3", "runs", "dead")}, 3, None),
        ({"error": "CRM"}, 1, None),
    ],
)
def test_a_list_is_emptied(
    full: Queue, wanted: dict[str, Any], count: int, left: set[str] | None
) -> None:
    meant = WaitingFilter(names=("q",), **wanted)
    before = full.places()
    counted = end(waiting.empty(full.client, meant, dry_run=True, actor="me"))
    assert (counted.done, counted.matching, full.places()) == (0, count, before)
    last = end(waiting.empty(full.client, meant, actor="me"))
    assert (last.done, last.matching) == (count, count)
    assert full.places().total() == before.total() - count
    assert left is None or where(full) == left
    [entry] = audit.recent(full.client)
    assert (entry.actor, entry.action, entry.count) == ("me", "empty", count)
    assert end(waiting.empty(full.client, meant, actor="me")).done == 0


def test_no_list_is_emptied_that_is_not_named(full: Queue) -> None:
    before = full.places()
    with pytest.raises(InvalidArgumentError, match="names of lists"):
        end(waiting.empty(full.client, WaitingFilter(), actor="me"))
    end(waiting.empty(full.client, WaitingFilter(names=("other",)), actor="me"))
    assert full.places() == before


def test_jobs_end_as_cancelled_and_documents_expire_with_the_last_copy(full: Queue) -> None:
    full.client.delete(PARKED)
    full.run(submit(Submission("q", "j1", "job-1", document("j1"))))
    full.store("runs")
    wanted = WaitingFilter(names=("q",))
    full.push("other", "u2")
    end(waiting.empty(full.client, wanted, actor="me", keep_s=500, configured=["other"]))
    assert full.client.hget("conserver:job:job-1", "status") == b"cancelled"
    lives = {uuid: full.client.ttl(f"vcon:{uuid}") for uuid in ("j1", "u1", "u2", "runs")}
    assert {uuid for uuid, left_s in lives.items() if 0 < left_s <= 500} == {"j1", "u1"}


def test_only_what_is_known_to_be_old_is_taken(queue: Queue) -> None:
    queue.client.delete(PARKED)
    queue.push("q", "u1", "u2#job-1", "u3#job-2")
    queue.client.hset("conserver:job:job-1", mapping={"status": "queued", "created_ms": 1000})
    queue.client.rpush(keys.returned("q"), record("c.5.1", "back"))
    wanted = WaitingFilter(names=("q",), older_s=3600)
    last = end(waiting.empty(queue.client, wanted, actor="me"))
    assert (last.done, last.left_out) == (2, {"age": 2})
    assert queue.waiting() == [b"u1", b"u3#job-2"]


def test_emptying_ends_although_producers_go_on(queue: Queue) -> None:
    queue.client.delete(PARKED)
    queue.push("q", *[f"u{n}" for n in range(10)])
    done = 0
    for n, step in enumerate(waiting.empty(queue.client, WaitingFilter(names=("q",)), actor="me")):
        done = step.done
        queue.push("q", f"more-{n}")
    assert 10 <= done <= 20
