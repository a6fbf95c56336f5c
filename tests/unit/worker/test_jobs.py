"""What a worker does for the jobs of its items: ends, hints, causes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
import pytest

from conserver.errors import Rejected, Retry
from conserver.queue import jobs, keys, operator_calls, script
from conserver.queue.jobs import Job
from conserver.queue.operator_calls import Submission
from conserver.vcon.document import Vcon
from tests.daemon import vcon
from tests.helpers import eventually
from tests.queues import Queue
from tests.workers import RunningWorker, SteppedWorker, link, nothing, tag


def submit(queue: Queue, job: str, name: str = "in") -> str:
    """Submit a vCon as a job; its uuid."""
    document = vcon()
    one = Submission(name, document["uuid"], job, orjson.dumps(document))
    assert queue.run(operator_calls.submit(one)) == [b"queued"]
    return str(document["uuid"])


def job_of(queue: Queue, job: str) -> Job:
    """A job that is known."""
    found = jobs.load(job, queue.client.hgetall(keys.job(job)))
    assert found is not None
    return found


def _filter(_vcon: Vcon, _context: Any) -> None:
    return None


def _reject(_vcon: Vcon, _context: Any) -> Vcon:
    raise Rejected("nobody can read it")


def _retry(_vcon: Vcon, _context: Any) -> Vcon:
    raise Retry(50, "the model is busy")


@pytest.mark.parametrize(
    ("run", "status"), [(tag, "completed"), (_filter, "filtered"), (_reject, "failed")]
)
def test_an_item_ends_its_job(
    redis_url: str, run: Callable[[Vcon, Any], Vcon | None], status: str
) -> None:
    with SteppedWorker(redis_url, links=[link("it", run)]) as worker:
        submit(worker.queue, "j1")
        worker.work()
        job = job_of(worker.queue, "j1")
    assert job.status == status
    if status == "failed":
        assert (job.error["reason"], job.error["link"]) == ("rejected", "it")


def test_a_parked_item_says_what_its_job_waits_for(redis_url: str) -> None:
    with SteppedWorker(redis_url, links=[link("it", _retry)]) as worker:
        submit(worker.queue, "j1")
        worker.work()
        job = job_of(worker.queue, "j1")
    assert job.status == "waiting"
    assert job.error == {"link": "it", "error": "the model is busy", "attempts": 1}
    assert job.attempts == 1
    assert job.retry_at > job.created_at


@pytest.mark.parametrize(("failures", "status"), [(2, "completed"), (3, "failed")])
def test_a_job_knows_how_many_attempts_failed(redis_url: str, failures: int, status: str) -> None:
    """Also after it has ended, and where no link ran long enough for a hint."""
    runs = iter(range(1, 10))

    def fail(vcon: Vcon, _context: Any) -> Vcon:
        if next(runs) <= failures:
            raise ValueError("no")
        return vcon

    chains = {"main": {"retries": 2}}
    with SteppedWorker(redis_url, chains, links=[link("it", fail)]) as worker:
        submit(worker.queue, "j1")
        for _ in range(3):
            worker.work()
            worker.queue.promote("in")
        job = job_of(worker.queue, "j1")
    assert (job.status, job.attempts) == (status, failures)
    assert bool(job.error) == (status == "failed")


def test_the_progress_of_a_link_shows_while_it_runs(redis_url: str) -> None:
    ready, go_on = threading.Event(), threading.Event()

    def work(vcon: Vcon, context: Any) -> Vcon:
        context.progress(130, 600, "s", doing="fetches ftp://me:pAss-w0rd@host/a")
        ready.set()
        assert go_on.wait(300)
        return vcon

    with RunningWorker(redis_url, links=[link("listen", work), link("last", nothing)]) as worker:
        submit(worker.queue, "j1")
        assert ready.wait(60)
        eventually(lambda: job_of(worker.queue, "j1").progress)
        job = job_of(worker.queue, "j1")
        go_on.set()
        eventually(lambda: job_of(worker.queue, "j1").ended)
        after = job_of(worker.queue, "j1")
    assert (job.status, job.link) == ("processing", "listen")
    assert job.progress.items() >= {"done": 130, "total": 600, "unit": "s"}.items()
    assert "host/a" in job.progress["doing"]
    assert "pAss-w0rd" not in job.progress["doing"]
    assert (after.status, after.link, after.progress) == ("completed", "", {})


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(("half",), id="text"),
        pytest.param((None,), id="nothing"),
        pytest.param((1, 2, "\ud800"), id="a lone surrogate"),
        pytest.param((1, 2, 3), id="a number as the unit"),
    ],
)
def test_a_progress_that_is_none_is_the_fault_of_its_link(
    redis_url: str, shown: tuple[Any, ...]
) -> None:
    """And no concern of the worker loop, which would die of it."""

    def work(vcon: Vcon, context: Any) -> Vcon:
        context.progress(*shown)
        return vcon

    with SteppedWorker(redis_url, links=[link("it", work)]) as worker:
        submit(worker.queue, "j1")
        worker.work()
        job = job_of(worker.queue, "j1")
    assert (job.status, job.error["link"]) == ("waiting", "it")  # for its next attempt


@pytest.mark.parametrize("done", [2**70, Decimal("1.5"), Fraction(1, 3), True, math.nan])
def test_a_progress_may_be_any_number(redis_url: str, done: Any) -> None:
    ready, go_on = threading.Event(), threading.Event()

    def work(vcon: Vcon, context: Any) -> Vcon:
        context.progress(done)
        ready.set()
        assert go_on.wait(300)
        return vcon

    with RunningWorker(redis_url, links=[link("it", work)]) as worker:
        submit(worker.queue, "j1")
        assert ready.wait(60)
        eventually(lambda: job_of(worker.queue, "j1").progress)
        go_on.set()
        eventually(lambda: job_of(worker.queue, "j1").status == "completed")


def test_items_without_a_job_send_no_hints(redis_url: str) -> None:
    sent: list[str] = []
    with SteppedWorker(redis_url, links=[link("it", tag)]) as worker:
        worker.redis.before = lambda words: sent.append(str(words[1])[:40])
        worker.supply(3)
        worker.work()
        assert not list(worker.queue.client.scan_iter("conserver:job*"))
    assert sent
    assert script.load("hint").sha not in sent
