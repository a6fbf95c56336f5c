"""What one token may have, over all replicas: unfinished jobs at once, and bytes on a day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from conserver.queue import keys
from tests.api.conftest import Api, document
from tests.queues import Consumer, Queue

JOBS = 5
LIMIT_BYTES = 4000


@pytest.fixture
def replicas(serve: Callable[..., Api]) -> Iterator[list[httpx.Client]]:
    """Ann, at two replicas of the API that have one Redis."""
    with ExitStack() as stack:
        limits = {
            "CONSERVER_API_JOBS_AT_ONCE": str(JOBS),
            "CONSERVER_API_BYTES_PER_DAY": str(LIMIT_BYTES),
        }
        yield [stack.enter_context(serve(**limits).client("submit")) for _ in range(2)]


def post(client: httpx.Client, **query: Any) -> httpx.Response:
    return client.post("/v1/vcons", params={"list": "calls", **query}, content=document())


def test_jobs_at_once_are_counted_over_replicas(
    serve: Callable[..., Api], queue: Queue, worker: Consumer
) -> None:
    with ExitStack() as stack:
        limit = {"CONSERVER_API_JOBS_AT_ONCE": str(JOBS)}
        replicas = [serve(**limit) for _ in range(2)]
        ann, ann_too = (stack.enter_context(one.client("submit")) for one in replicas)
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(post, [ann, ann_too] * JOBS))
        assert sorted(one.status_code for one in answers) == [202] * JOBS + [429] * JOBS
        refused = next(one for one in answers if one.status_code == 429)
        assert "`ann` are unfinished" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        # Somebody else's jobs are counted apart.
        other = stack.enter_context(replicas[0].client("other"))
        assert post(other).status_code == 202
        # A job that ends makes room for one more, at any replica.
        item = worker.one()
        assert post(ann).status_code == 429
        worker.settle(item)
        assert post(ann_too).status_code == 202
        assert post(ann).status_code == 429
    assert queue.client.zcard(keys.open_jobs("ann")) == JOBS


def test_a_job_that_is_cancelled_makes_room(replicas: list[httpx.Client]) -> None:
    ann, ann_too = replicas
    made = [post(ann, job=f"j{number}") for number in range(JOBS)]
    assert {one.status_code for one in made} == {202}
    again = ann_too.post("/v1/vcons", params={"list": "calls", "job": "j0"}, content=document())
    assert again.status_code == 409, "the limit does not hide that the job is known"
    assert post(ann_too).status_code == 429
    assert ann.delete("/v1/jobs/j3").status_code < 300
    assert post(ann_too).status_code == 202


def test_jobs_of_a_minute_are_counted_over_replicas(serve: Callable[..., Api]) -> None:
    with ExitStack() as stack:
        limit = {"CONSERVER_API_JOBS_PER_MINUTE": "3"}
        replicas = [stack.enter_context(serve(**limit).client("submit")) for _ in range(2)]
        answers = [post(replicas[number % 2]) for number in range(7)]
        refused = [one for one in answers if one.status_code == 429]
        # The next minute may begin meanwhile.
        assert 1 <= len(refused) <= 4
        assert "3 jobs of this minute" in refused[0].json()["detail"]
        assert 0 < int(refused[0].headers["Retry-After"]) <= 60


def test_a_job_for_later_counts_until_then(replicas: list[httpx.Client]) -> None:
    ann, ann_too = replicas
    for _ in range(JOBS):
        assert post(ann, not_before="2099-01-01T00:00:00Z").status_code == 202
    assert post(ann_too).status_code == 429


def test_bytes_of_a_day_are_counted_over_replicas(
    replicas: list[httpx.Client], queue: Queue
) -> None:
    ann, ann_too = replicas
    size = LIMIT_BYTES // 2 - 1

    def put(client: httpx.Client, content: Any) -> httpx.Response:
        offered = client.post("/v1/uploads").json()
        return client.put(offered["url"].removeprefix("/api"), content=content)

    assert put(ann, b"x" * size).status_code == 201
    # A body whose length is not told is counted as it comes.
    assert put(ann_too, iter([b"x" * (size - 10), b"x" * 10])).status_code == 201
    refused = put(ann, b"xyz")
    assert refused.status_code == 429
    assert f"has sent {2 * size} of its {LIMIT_BYTES} bytes" in refused.json()["detail"]
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    assert put(ann_too, iter([b"xyz"])).status_code == 429
    assert put(ann_too, b"xy").status_code == 201, "what was refused is not counted"
    assert queue.client.hget(keys.spent("ann"), "count") == str(LIMIT_BYTES).encode()


def test_what_no_day_has_room_for_is_too_large(replicas: list[httpx.Client]) -> None:
    answer = replicas[0].post(
        "/v1/vcons", params={"list": "calls"}, content=document(subject="x" * LIMIT_BYTES)
    )
    assert answer.status_code == 413
    assert answer.json()["max_bytes"] == LIMIT_BYTES


def test_without_a_limit_nothing_is_kept(submit: httpx.Client, queue: Queue) -> None:
    assert post(submit).status_code == 202
    assert queue.client.exists(keys.open_jobs("ann"), keys.spent("ann")) == 0


@pytest.mark.parametrize("kind", ["list", "string"])
def test_a_key_of_another_type_is_named(
    replicas: list[httpx.Client], queue: Queue, kind: str
) -> None:
    queue.make_key(keys.open_jobs("ann"), kind)
    answer = post(replicas[0])
    assert answer.status_code == 409
    assert keys.open_jobs("ann") in answer.json()["detail"]
    queue.client.delete(keys.open_jobs("ann"))
    queue.client.delete(keys.spent("ann"))
    queue.make_key(keys.spent("ann"), kind)
    answer = post(replicas[0])
    assert answer.status_code == 409
    assert keys.spent("ann") in answer.json()["detail"]
