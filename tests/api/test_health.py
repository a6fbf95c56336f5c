"""/health: open to all, 200 while items are taken, 503 while not; tests/process has a true host."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.api.conftest import Api
from tests.queues import Queue


def beating(queue: Queue, host: str = "h1", **fields: Any) -> None:
    """A host as its beat would leave it."""
    beat = {
        "name": host,
        "beat": int(time.time() * 1000),
        "state": "running",
        "lists": '["calls"]',
        "workers": '[{"state": "working", "held": 3}]',
        **{name: value if isinstance(value, str) else json.dumps(value) for name, value in
           fields.items()},
    }  # fmt: skip
    queue.client.sadd("conserver:hosts", host)
    queue.client.hset(f"conserver:host:{host}", mapping=beat)


def asked(api: Api) -> tuple[int, dict[str, Any]]:
    """The answer to somebody without a token."""
    found = httpx.get(f"{api.url}/health", timeout=60)
    return found.status_code, found.json()


def test_nobody_takes_items(api: Api, queue: Queue) -> None:
    status, body = asked(api)
    assert (status, body["status"], body["reason"]) == (503, "unhealthy", "no host is running")
    beating(queue, state="draining")
    assert asked(api)[1]["reason"] == "it is draining"


def test_what_transcribers_do_and_what_waits_for_them(
    serve: Callable[..., Api], queue: Queue
) -> None:
    api = serve(VCON_SERVER_VERSION="1.2", UPLOAD_TIMEOUT_SECONDS="90")
    one = {"slots": 16, "busy": 3, "waiting": 1}
    beating(queue, supervisor={"transcribers": [one, {"slots": 16, "busy": 16, "waiting": 0}]})
    beating(queue, "h2", beat="1000", supervisor={"transcribers": [one]})  # It is dead.
    queue.push("calls", "a", "b")
    status, body = asked(api)
    assert (status, body["status"]) == (200, "healthy")
    assert body["concurrency"] == {"slots": 32, "busy": 19, "waiting": 3}
    assert body["version"]["version"] == "1.2"
    timeouts = {"connect": 30, "read": 120, "write": 120, "pool": 10}
    assert body["timeouts"] == {"upload_timeout_seconds": 90, **timeouts}


def test_without_transcribers_the_workers_are_the_slots(
    serve: Callable[..., Api], queue: Queue
) -> None:
    api = serve(CONSERVER_VCON_CONCURRENCY="4")
    beating(queue)
    assert asked(api)[1]["concurrency"] == {"slots": 4, "busy": 3, "waiting": 0}


def test_redis_is_away(serve: Callable[..., Api]) -> None:
    status, body = asked(serve(url="redis://127.0.0.1:1"))
    assert (status, body["reason"]) == (503, "Redis does not answer: it cannot be reached")
