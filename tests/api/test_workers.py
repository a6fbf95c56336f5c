"""What a worker holds, over the API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import httpx
import orjson
import pytest

from conserver.queue import keys
from tests.queues import Consumer, Queue

Clients = Callable[[str], httpx.Client]


@pytest.fixture
def worker(queue: Queue) -> Consumer:
    """Who takes from both lists."""
    return Consumer(queue, lists=("calls", "other"))


@pytest.fixture
def host(queue: Queue, worker: Consumer) -> str:
    """The host of a worker that holds u1 of `calls` and u2 of `other`, and has told of u1."""
    queue.supply("calls", "u1")
    queue.push("other", "u2#job-2")
    worker.take(2)
    told = {"slot": 1, "pid": 7, "consumer": worker.id, "state": "working", "held": 2}
    told["items"] = [
        {"uuid": "u1", "chain": "main", "link": "tag", "phase": "running", "since_s": 4.5}
    ]
    fields = {"name": "box", "beat": f"{int(time.time() * 1000)}.1", "workers": json.dumps([told])}
    queue.client.hset(keys.host(worker.host), mapping=fields)
    return worker.host


def test_a_worker_tells_all_that_it_holds(clients: Clients, host: str) -> None:
    found = clients("read").get(f"/v1/hosts/{host}/workers/1").json()
    assert (found["name"], found["slot"], found["pid"], found["state"]) == ("box", 1, 7, "working")
    assert found["beats"] is True
    held = {one["uuid"]: one for one in found["items"]}
    assert (held["u1"]["link"], held["u1"]["phase"], held["u1"]["since_s"]) == (
        "tag",
        "running",
        4.5,
    )
    assert (held["u2"]["link"], held["u2"]["job"], held["u2"]["list"]) == ("", "job-2", "other")
    for one in held.values():
        assert one["claimed_at"].startswith("20")


def test_a_token_of_some_lists_sees_their_items(clients: Clients, host: str) -> None:
    found = clients("narrow").get(f"/v1/hosts/{host}/workers/1").json()
    assert [one["uuid"] for one in found["items"]] == ["u2"]


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("box/workers/1", 404, "no host has this id"),
        ("h1/workers/9", 404, "there is no worker 9 of the host `box`; its workers are 1"),
        ("h1/workers/x", 422, "valid integer"),
    ],
)
def test_there_is_no_such_worker(
    clients: Clients, host: str, path: str, status: int, why: str
) -> None:
    answer = clients("read").get(f"/v1/hosts/{path}")
    assert answer.status_code == status
    assert why in answer.json()["detail"]


def test_a_worker_of_a_host_that_is_gone_is_told_as_such(
    clients: Clients, host: str, queue: Queue
) -> None:
    queue.client.hset(keys.host(host), "beat", "1000.1")
    found = clients("read").get(f"/v1/hosts/{host}/workers/1").json()
    assert (found["beats"], found["state"]) == (False, "working")


def test_what_another_program_put_there_is_passed_over(
    clients: Clients, host: str, queue: Queue, worker: Consumer
) -> None:
    queue.client.hset(keys.inflight(worker.id), mapping={"x": "no record", "y": orjson.dumps({})})
    found = clients("read").get(f"/v1/hosts/{host}/workers/1").json()
    assert len(found["items"]) == 2
