"""Trying parked items now, and emptying lists, over the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from conserver.queue import keys
from tests.api.conftest import submitted
from tests.helpers import eventually
from tests.queues import Consumer, Queue

Clients = Callable[[str], httpx.Client]
FAR_MS = 3_600_000


def ended(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The operation that a call begins, at its end."""
    answer = client.post(path, json=body)
    assert answer.status_code == 202, answer.text

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(answer.headers["location"]).json()
        return None if found["status"] == "running" else found

    found = eventually(look)
    assert found is not None
    return found


@pytest.fixture
def jobs(submit: httpx.Client, worker: Consumer) -> list[dict[str, Any]]:
    """Three jobs: parked for another attempt, for a storage, and for a rate."""
    made = [submitted(submit) for _ in range(3)]
    states: list[dict[str, Any]] = [{"attempts": 1}, {"owed": ["s3"]}, {"slots": ["link:a"]}]
    for item, state in zip(worker.take(3), states, strict=True):
        worker.park(item, after_ms=FAR_MS, state=orjson.dumps(state))
    return made


def test_parked_items_are_tried_now(
    clients: Clients, jobs: list[dict[str, Any]], queue: Queue
) -> None:
    operate = clients("operate")
    path = "/v1/lists/calls/retry"
    counted = ended(operate, path, {"dry_run": True})
    assert (counted["kind"], counted["done"], counted["matching"]) == ("retry", 0, 2)
    assert (counted["total"], counted["left_out"]) == (3, {"rate": 1})
    assert queue.promote("calls", everything=False) == 0
    done = ended(operate, path, {"storage": "s3"})
    assert (done["status"], done["done"]) == ("done", 1)
    assert done["filter"] == {"lists": ["calls"], "storage": "s3"}
    assert queue.promote("calls", everything=False) == 1
    assert ended(operate, path, {"uuids": [jobs[0]["uuid"]]})["done"] == 1
    assert queue.promote("calls", everything=False) == 1
    told = [operate.get(job["links"]["self"]).json()["status"] for job in jobs]
    assert told == ["queued", "queued", "waiting"]
    entries = [one for one in operate.get("/v1/audit").json() if one["action"] == "retry"]
    assert [(one["actor"], one["count"]) for one in entries] == [("ops", 1), ("ops", 1)]


def test_what_was_submitted_for_later_is_hurried_only_if_that_is_said(
    clients: Clients, queue: Queue
) -> None:
    operate = clients("operate")
    submitted(clients("submit"), not_before="2090-01-01T00:00:00Z")
    told = ended(operate, "/v1/lists/calls/retry", {})
    assert (told["done"], told["left_out"]) == (0, {"later": 1})
    assert ended(operate, "/v1/lists/calls/retry", {"causes": ["later"]})["done"] == 1
    assert queue.promote("calls", everything=False) == 1


def test_a_list_is_emptied(clients: Clients, jobs: list[dict[str, Any]], queue: Queue) -> None:
    operate = clients("operate")
    path = "/v1/lists/calls/empty"
    late = submitted(clients("submit"))
    assert operate.post(path, json={}).json()["type"] == "everything"
    counted = ended(operate, path, {"everything": True, "dry_run": True})
    assert (counted["done"], counted["matching"]) == (0, 4)
    assert ended(operate, path, {"places": ["parked"], "limit": 2})["done"] == 2
    assert ended(operate, path, {"uuids": [late["uuid"]]})["done"] == 1
    assert ended(operate, path, {"everything": True})["done"] == 1
    assert queue.places("calls").total() == 0
    for job in [*jobs, late]:
        assert operate.get(job["links"]["self"]).json()["status"] == "cancelled"
        assert 0 < queue.client.ttl(keys.document(job["uuid"])) <= 86_400 * 365
    entries = [one for one in operate.get("/v1/audit").json() if one["action"] == "empty"]
    assert [one["count"] for one in entries] == [1, 1, 2]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("calls/retry", {"causes": ["rate"]}, 422),
        ("calls/retry", {"causes": ["retry", "x"]}, 422),
        ("calls/retry", {"places": ["queued"]}, 422),
        ("calls/retry", {"older": "2"}, 422),
        ("nowhere/retry", {}, 404),
        ("call/empty", {"everything": True}, 404),
        ("calls/empty", {"places": ["dead"]}, 422),
        ("calls/empty", {"older": "soon"}, 422),
        ("calls/empty", {"everything": True, "limit": -1}, 422),
    ],
)
def test_what_is_refused(clients: Clients, path: str, body: dict[str, Any], status: int) -> None:
    answer = clients("operate").post(f"/v1/lists/{path}", json=body)
    assert answer.status_code == status, answer.text


def test_a_token_of_some_lists_has_only_theirs(
    clients: Clients, jobs: list[dict[str, Any]], queue: Queue
) -> None:
    narrow = clients("narrow")
    for path, body in (("retry", {}), ("empty", {"everything": True})):
        assert narrow.post(f"/v1/lists/calls/{path}", json=body).status_code == 403
        found = ended(narrow, f"/v1/lists/other/{path}", body)
        assert (found["status"], found["done"]) == ("done", 0)
    begun = clients("operate").post("/v1/lists/calls/retry", json={"dry_run": True})
    assert narrow.get(begun.headers["location"]).status_code == 404
    assert len(narrow.get("/v1/operations").json()) == 2
    assert queue.places("calls").total() == 3
