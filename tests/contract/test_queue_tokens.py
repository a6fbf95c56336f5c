"""What one token may have: jobs at once, and bytes on a day."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conserver.queue import calls, keys, limits, operator_calls
from conserver.queue.operator_calls import Submission
from tests.queues import Consumer, Queue, document

OPEN = keys.open_jobs("ann")
DAY_S = 86_400
TODAY_S = 20_000 * DAY_S


def submit(queue: Queue, job: str, most_jobs: int = 2, **rest: Any) -> bytes:
    """Submit for Ann; the first word of the answer."""
    one = Submission("q", f"u-{job}", job, document(f"u-{job}"), **rest)
    call = operator_calls.submit(one._replace(api_token="ann", most_jobs=most_jobs))
    return bytes(queue.run(call)[0])


def spend(queue: Queue, count: int, most: int = 100, *, now_s: int = TODAY_S) -> list[Any]:
    return list(queue.run(limits.spend("ann", count, most, now_s=now_s)))


def open_jobs(queue: Queue) -> set[str]:
    return {job.decode() for job in queue.client.zrange(OPEN, 0, -1)}


def test_no_more_jobs_at_once_than_there_may_be(queue: Queue) -> None:
    assert [submit(queue, job) for job in "abc"] == [b"queued", b"queued", b"busy"]
    assert queue.waiting() == [b"u-a#a", b"u-b#b"]
    assert not queue.client.exists("conserver:job:c", "vcon:u-c"), "nothing of it was stored"
    assert submit(queue, "a") == b"exists", "what was taken before is told as such"
    assert 604_000 < queue.client.ttl(OPEN) <= 604_800


def test_a_job_of_later_counts_until_its_end(queue: Queue) -> None:
    seconds, _ = queue.client.time()
    due_s = 30 * 86_400
    assert submit(queue, "a", due_ms=1000 * (seconds + due_s)) == b"waiting"
    assert submit(queue, "b") == b"queued"
    assert due_s + 604_000 < queue.client.ttl(OPEN)
    assert queue.client.zscore(OPEN, "a") > 1000 * (seconds + due_s)


@pytest.mark.parametrize("end", ["completed", "filtered", "cancelled", "failed", "waits"])
def test_every_end_makes_room(queue: Queue, end: str) -> None:
    for job in "ab":
        submit(queue, job)
    if end == "cancelled":
        assert queue.run(operator_calls.cancel("q", "u-a#a")) == 1
    else:
        one = Consumer(queue)
        item = one.one()
        if end == "failed":
            queue.run(
                calls.move("dead", one.id, [calls.Move(item.token, item.epoch, why=b"{}")], 0)
            )
        elif end == "waits":
            one.release(item)
        else:
            one.settle(item, status=end)
    assert open_jobs(queue) == ({"a", "b"} if end == "waits" else {"b"})
    assert submit(queue, "c") == (b"busy" if end == "waits" else b"queued")


def test_a_job_whose_hash_is_lost_keeps_no_place(queue: Queue) -> None:
    for job in "ab":
        submit(queue, job)
    queue.client.delete("conserver:job:a")
    assert submit(queue, "c") == b"queued"
    assert open_jobs(queue) == {"b", "c"}


def test_a_job_keeps_no_place_beyond_its_time(queue: Queue) -> None:
    queue.client.zadd(OPEN, {f"old{number}": 1 for number in range(40)})
    assert submit(queue, "a") == b"queued"
    assert open_jobs(queue) == {"a"}


def test_a_submission_that_nobody_follows_is_not_counted(queue: Queue) -> None:
    assert [submit(queue, "", most_jobs=1) for _ in range(3)] == [b"queued"] * 3
    assert not queue.client.exists(OPEN)


def test_a_job_without_a_limit_is_not_counted(queue: Queue) -> None:
    assert submit(queue, "a", most_jobs=0) == b"queued"
    assert not queue.client.exists(OPEN)
    assert not queue.client.hexists("conserver:job:a", "counted")


def test_a_job_for_later_counts(queue: Queue) -> None:
    later_ms = 8_000_000_000_000
    assert [submit(queue, job, 1, due_ms=later_ms) for job in "ab"] == [b"waiting", b"busy"]


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_open_jobs_of_another_type_take_nothing(queue: Queue) -> None:
    queue.make_key(OPEN, "string")
    assert submit(queue, "a") == b"type"
    assert queue.waiting() == []


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_key_that_became_another_type_does_not_stop_an_end(queue: Queue) -> None:
    submit(queue, "a")
    queue.client.delete(OPEN)
    queue.make_key(OPEN, "string")
    one = Consumer(queue)
    assert one.settle(one.one()).kind == "settled"
    assert queue.client.hget("conserver:job:a", "status") == b"completed"


def test_bytes_are_counted_up_to_the_limit_of_a_day(queue: Queue) -> None:
    assert spend(queue, 60) == [1, b"60"]
    assert spend(queue, 41) == [0, b"60", DAY_S]
    assert spend(queue, 40, now_s=TODAY_S + DAY_S - 1) == [1, b"100"]
    assert spend(queue, 1, now_s=TODAY_S + DAY_S - 1) == [0, b"100", 1]
    assert spend(queue, 100, now_s=TODAY_S + DAY_S) == [1, b"100"]


def test_jobs_are_counted_up_to_the_limit_of_a_minute(queue: Queue) -> None:
    def submitted(now_s: int) -> list[Any]:
        return list(queue.run(limits.submitted("ann", 2, now_s=now_s)))

    assert [submitted(TODAY_S + 10)[0] for _ in range(3)] == [1, 1, 0]
    assert submitted(TODAY_S + 59) == [0, b"2", 1]
    assert submitted(TODAY_S + 60) == [1, b"1"]
    assert 0 < queue.client.ttl(keys.submitted("ann")) <= 60
    assert not queue.client.exists(keys.spent("ann")), "bytes are counted apart"


def test_the_count_of_a_day_is_not_kept_beyond_it(queue: Queue) -> None:
    spend(queue, 1, now_s=0)
    assert 0 < queue.client.ttl(keys.spent("ann")) <= DAY_S


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_count_of_another_type_is_named(queue: Queue) -> None:
    queue.make_key(keys.spent("ann"), "list")
    assert spend(queue, 1) == [b"type", keys.spent("ann").encode(), b"list"]


@given(
    asked=st.lists(st.tuples(st.integers(0, DAY_S), st.integers(0, 120)), max_size=40),
    most=st.integers(1, 200),
)
def test_no_day_has_more_bytes_than_it_may(asked: list[tuple[int, int]], most: int) -> None:
    """And nothing is refused that had room."""
    fake = pytest.importorskip("fakeredis").FakeRedis()
    fake.flushall()
    queue, now_s = Queue(fake), TODAY_S
    sent: dict[int, int] = {}
    for passed_s, count in asked:
        now_s += passed_s
        day = now_s // DAY_S
        good = spend(queue, count, most, now_s=now_s)[0]
        assert good == (sent.get(day, 0) + count <= most)
        sent[day] = sent.get(day, 0) + good * count
    assert all(total <= most for total in sent.values())
