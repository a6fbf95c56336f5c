"""Pages of jobs: stable while others arrive, bounded where few match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conserver.operations import jobs
from conserver.queue import keys
from tests.queues import Queue, opened


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with opened(redis_url) as found:
        yield found


def make(queue: Queue, names: list[str], status: str = "queued") -> None:
    """Jobs of one moment, by their hashes alone; an empty status for one that has expired."""
    with queue.client.pipeline() as pipe:
        for name in names:
            pipe.zadd(keys.JOBS, {name: 1000})
            if status:
                pipe.hset(keys.job(name), mapping={"status": status, "list": "calls"})
        pipe.execute()


class Busy:
    """A client on whose server jobs arrive before each look at the list."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        if name == "zrevrangebyscore":
            for _ in range(300):
                self._count += 1
                self._queue.client.zadd(keys.JOBS, {f"new{self._count}": 2000 + self._count})
        return getattr(self._queue.client, name)


def test_jobs_that_arrive_between_two_steps_hide_and_repeat_none(queue: Queue) -> None:
    names = [f"j{number:04}" for number in range(1000)]
    make(queue, names)
    found = [job.id for job in jobs.newest(Busy(queue))]
    assert found == names[::-1]


@pytest.mark.parametrize("count", [1, 199, 200, 201, 400, 600])
def test_every_page_ends_wherever_steps_do(queue: Queue, count: int) -> None:
    names = [f"j{number:04}" for number in range(count)]
    make(queue, names)
    found, after = [], ""
    while True:
        part = jobs.page(queue.client, limit=150, after=after)
        found += [job.id for job in part.jobs]
        if not (after := part.after):
            break
    assert found == names[::-1]


def test_a_page_looks_at_a_bounded_number_of_jobs(queue: Queue) -> None:
    make(queue, [f"j{number:05}" for number in range(jobs.LOOKED_AT_MAX + 5)], status="")
    make(queue, ["a-job"])
    first = jobs.page(queue.client, limit=1)
    assert (first.jobs, bool(first.after)) == ([], True)
    second = jobs.page(queue.client, limit=1, after=first.after)
    assert [job.id for job in second.jobs] == ["a-job"]
    assert jobs.page(queue.client, after=second.after) == jobs.Page([], "")


def test_who_may_not_see_a_job_gets_the_next_one(queue: Queue) -> None:
    make(queue, ["a", "b", "c"])
    found = jobs.page(queue.client, limit=1, allowed=lambda job: job.id != "c")
    assert ([job.id for job in found.jobs], found.after) == (["b"], "b")
