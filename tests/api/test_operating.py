"""What operators see and do: lists, dead letters, operations, hosts, configuration, audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from conserver.queue import keys
from tests import operators
from tests.api.conftest import Api, submitted
from tests.helpers import eventually
from tests.operators import beat
from tests.queues import Consumer, Queue

Clients = Callable[[str], httpx.Client]


@pytest.fixture
def operate(clients: Clients) -> httpx.Client:
    """An operator."""
    return clients("operate")


@pytest.fixture
def dead(submit: httpx.Client, worker: Consumer) -> list[str]:
    """The uuids of 5 dead letters of the list `calls`."""
    uuids = [submitted(submit)["uuid"] for _ in range(5)]
    worker.dead_letter(*worker.take(5), why="failed")
    return uuids


def finished(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """An operation at its end."""
    answer = client.post("/v1/operations", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/operations/{answer.json()['id']}"

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(answer.headers["location"]).json()
        return None if found["status"] == "running" else found

    ended = eventually(look)
    assert ended is not None
    return ended


# ---- lists ----


def test_lists_tell_their_depths(operate: httpx.Client, queue: Queue, worker: Consumer) -> None:
    queue.supply("calls", *[f"u{n}" for n in range(5)])
    worker.claim(2)
    queue.supply("calls", "late")
    lists = {one["name"]: one for one in operate.get("/v1/lists").json()}
    assert lists.keys() >= {"calls", "other"}
    assert (lists["calls"]["queued"], lists["calls"]["paused"]) == (4, False)
    again = operate.get("/v1/lists/calls").json()
    assert again.pop("oldest_age_s") >= lists["calls"].pop("oldest_age_s")
    assert again == lists["calls"]
    assert operate.get("/v1/lists/nowhere").status_code == 404


def test_the_backlog_is_what_needs_a_worker_now(
    clients: Clients, queue: Queue, worker: Consumer
) -> None:
    def backlog() -> dict[str, int]:
        found: dict[str, int] = clients("read").get("/v1/lists/calls/backlog").json()
        return {name: count for name, count in found.items() if count}

    assert backlog() == {}
    queue.supply("calls", *[f"u{n}" for n in range(5)])
    queue.supply("other", "somebody else's")
    first, second, third = worker.take(3)
    assert backlog() == {"value": 5, "queued": 2, "in_flight": 3}
    worker.park(first, after_ms=-1000)
    worker.park(second, after_ms=3_600_000)
    assert backlog() == {"value": 4, "queued": 2, "due": 1, "in_flight": 1}
    worker.settle(third)
    assert backlog() == {"value": 3, "queued": 2, "due": 1}
    assert clients("submit").get("/v1/lists/calls/backlog").status_code == 403


def test_a_list_of_an_earlier_configuration_is_paused_and_resumed(
    operate: httpx.Client, queue: Queue
) -> None:
    queue.client.sadd(keys.LISTS, "old")
    for what, paused in (("resume", False), ("pause", True), ("resume", False)):
        told = operate.post(f"/v1/lists/old/{what}").json()
        assert (told["name"], told["paused"]) == ("old", paused)


def test_lists_are_paused_and_resumed(clients: Clients, operate: httpx.Client) -> None:
    assert operate.post("/v1/lists/calls/pause").json()["paused"] is True
    assert operate.post("/v1/lists/calls/resume").json()["paused"] is False
    assert operate.post("/v1/lists/call/pause").status_code == 404
    assert operate.post("/v1/lists/call/resume").status_code == 404
    assert clients("read").post("/v1/lists/calls/pause").status_code == 403
    assert clients("narrow").post("/v1/lists/calls/pause").status_code == 403
    assert [one["name"] for one in clients("narrow").get("/v1/lists").json()] == ["other"]
    audit = operate.get("/v1/audit").json()
    assert [(one["action"], one["actor"]) for one in audit] == [("resume", "ops"), ("pause", "ops")]


def test_a_list_that_holds_only_dead_letters_is_known(queue: Queue, operate: httpx.Client) -> None:
    """A list to which only another program pushes is not: a caller might empty it."""
    queue.client.rpush(keys.dead_letters("gone"), "u-1")
    queue.client.rpush("celery", "job")
    assert operate.get("/v1/lists/gone").json()["dead"] == 1
    assert operate.post("/v1/lists/gone/resume").json()["dead"] == 1
    assert operate.get("/v1/lists/gone/backlog").json()["value"] == 0
    assert finished(operate, {"kind": "requeue", "filter": {"lists": ["gone"]}})["done"] == 1
    assert operate.get("/v1/lists/conserver:notifications").json()["queued"] == 0
    for name in ("call", "celery"):
        body = {"kind": "purge", "filter": {"lists": [name]}}
        refused = operate.post("/v1/operations", json=body)
        assert (refused.status_code, refused.json()["type"]) == (404, "list-unknown")
        assert refused.json()["detail"].startswith(f"there is no list {name}")
    assert "did you mean `calls`?" in operate.post("/v1/lists/call/retry", json={}).json()["detail"]
    assert operate.post("/v1/lists/celery/empty", json={"everything": True}).status_code == 404


# ---- dead letters ----


def test_dead_letters_are_listed_in_pages(operate: httpx.Client, dead: list[str]) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = operate.get("/v1/dead-letters", params={"limit": 2, "cursor": cursor}).json()
        seen += [one["uuid"] for one in page["dead_letters"]]
        cursor = page["next"]
    assert sorted(seen) == sorted(dead)
    [kind] = operate.get("/v1/dead-letters", params={"count": "kinds"}).json()
    assert (kind["count"], kind["list"], kind["reason"]) == (5, "calls", "failed")
    [one] = operate.get(f"/v1/dead-letters/{dead[0]}").json()["dead_letters"]
    assert one["reason"] == "failed"
    assert operate.get("/v1/dead-letters/unknown").status_code == 404
    assert operate.get(f"/v1/items/{dead[0]}").json()["places"] == [
        {"list": "calls", "where": "dead"}
    ]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"lists": "calls"}, 200),
        ({"lists": "nowhere"}, 404),
        ({"reason": "failed"}, 200),
        ({"reason": "x"}, 422),
        ({"older": "2h"}, 200),
        ({"older": "2"}, 422),
        ({"error": "("}, 200),
        ({"limit": "0"}, 422),
        ({"cursor": "x"}, 422),
        ({"count": "x"}, 422),
        ({"more": "x"}, 422),
    ],
)
def test_filters(operate: httpx.Client, query: dict[str, str], status: int) -> None:
    assert operate.get("/v1/dead-letters", params=query).status_code == status


def test_a_token_of_some_lists_sees_their_dead_letters_only(
    clients: Clients, dead: list[str]
) -> None:
    narrow = clients("narrow")
    assert narrow.get("/v1/dead-letters").json()["dead_letters"] == []
    assert narrow.get(f"/v1/dead-letters/{dead[0]}").status_code == 404
    assert narrow.get("/v1/dead-letters", params={"lists": "calls"}).status_code == 403
    assert finished(narrow, {"kind": "purge", "everything": True})["done"] == 0


# ---- operations ----


@pytest.mark.parametrize("path", ["/v1/audit", "/v1/search?q=refund"])
def test_a_token_of_some_lists_sees_nothing_of_all_lists(clients: Clients, path: str) -> None:
    assert clients("read").get(path).status_code == 200
    answer = clients("narrow").get(path)
    assert (answer.status_code, answer.json()["type"]) == (403, "list-forbidden")


def test_a_dry_run_counts(operate: httpx.Client, dead: list[str], queue: Queue) -> None:
    ended = finished(operate, {"kind": "purge", "filter": {"lists": ["calls"]}, "dry_run": True})
    assert (ended["status"], ended["done"], ended["matching"]) == ("done", 0, 5)
    assert len(queue.dead("calls")) == 5


def test_dead_letters_are_requeued_up_to_a_limit(
    operate: httpx.Client, dead: list[str], queue: Queue
) -> None:
    ended = finished(operate, {"kind": "requeue", "filter": {"lists": ["calls"]}, "limit": 3})
    assert (ended["status"], ended["done"]) == ("done", 3)
    assert len(queue.returned("calls")) == 3
    assert [one["id"] for one in operate.get("/v1/operations").json()] == [ended["id"]]
    assert operate.get("/v1/audit").json()[0]["count"] == 3


def test_dead_letters_are_purged(operate: httpx.Client, dead: list[str], queue: Queue) -> None:
    ended = finished(operate, {"kind": "purge", "filter": {"uuids": dead[:2]}})
    assert (ended["status"], ended["done"]) == ("done", 2)
    assert len(queue.dead("calls")) == 3


def test_vcons_are_cancelled(
    operate: httpx.Client, submit: httpx.Client, queue: Queue, worker: Consumer
) -> None:
    job = submitted(submit)
    submitted(submit)
    ended = finished(operate, {"kind": "cancel", "filter": {"uuids": [job["uuid"]]}})
    assert (ended["status"], ended["done"]) == ("done", 1)
    assert len(queue.waiting("calls")) == 1
    assert submit.get(job["links"]["self"]).json()["status"] == "cancelled"


def test_an_operation_is_stopped(operate: httpx.Client, queue: Queue, api: Api) -> None:
    queue.client.sadd("conserver:lists", "calls")
    pipe = queue.client.pipeline()
    for number in range(20_000):
        pipe.rpush("DLQ:calls", f"u{number}")
    pipe.execute()
    body = {"kind": "purge", "filter": {"lists": ["calls"]}}
    answer = operate.post("/v1/operations", json=body)
    path = answer.headers["location"]
    assert operate.delete(path).status_code == 202
    ended = eventually(
        lambda: next(
            (one for one in [operate.get(path).json()] if one["status"] != "running"), None
        )
    )
    assert ended is not None
    assert ended["status"] == "stopped"
    assert len(queue.dead("calls")) == 20_000 - ended["done"] > 0
    assert operate.delete(path).status_code == 409
    entries = [one for one in operate.get("/v1/audit").json() if one["action"] == "stop"]
    assert [(one["actor"], one["count"]) for one in entries] == [("ops", 1)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"kind": "explode"}, 422),
        ({"kind": "purge"}, 422),
        ({"kind": "purge", "filter": {"lists": []}}, 422),
        ({"kind": "cancel", "filter": {"lists": ["calls"]}}, 422),
        ({"kind": "purge", "filter": {"lists": ["nowhere"]}}, 404),
        ({"kind": "purge", "filter": {"reason": "x"}}, 422),
        ({"kind": "purge", "everything": True, "limit": -1}, 422),
    ],
)
def test_what_is_no_operation(operate: httpx.Client, body: dict[str, Any], status: int) -> None:
    assert operate.post("/v1/operations", json=body).status_code == status


def test_operations_need_their_role(clients: Clients) -> None:
    body = {"kind": "purge", "everything": True}
    assert clients("read").post("/v1/operations", json=body).status_code == 403
    assert clients("read").get("/v1/operations/unknown").status_code == 404


# ---- the whole ----


def test_status_and_hosts(clients: Clients, worker: Consumer) -> None:
    read = clients("read")
    status = read.get("/v1/status").json()
    assert [one["name"] for one in status["lists"]][:2] == ["urgent", "calls"]
    assert [host["id"] for host in status["hosts"]] == ["h1"]
    assert read.get("/v1/hosts").json()[0]["state"] == "starting"


def test_times_are_iso_8601(clients: Clients, queue: Queue) -> None:
    read = clients("read")
    beat(queue.client, name="box")
    workers = orjson.dumps([{"slot": 1, "started_at": 1.5, "ended_at": 0.0}])
    queue.client.hset(keys.host("h1"), "workers", workers)
    [host] = read.get("/v1/hosts").json()
    [shown] = read.get("/v1/workers").json()["workers"]
    for worker in (*host["workers"], shown):
        assert (worker["started_at"], worker["ended_at"]) == ("1970-01-01T00:00:01.500Z", None)
    queue.client.rpush("inbox", "u-1")
    operators.Consumer(queue.client).dead_letter(reason="failed", time_ms=1500)
    [letter] = read.get("/v1/dead-letters/u-1").json()["dead_letters"]
    assert letter["died_at"] == "1970-01-01T00:00:01.500Z"


@pytest.mark.parametrize("path", ["/v1/status", "/v1/hosts", "/v1/workers"])
def test_what_workers_do_is_shown_to_who_may_use_its_lists(
    clients: Clients, queue: Queue, path: str
) -> None:
    beat(queue.client, name="box")
    assert "u-7" in clients("read").get(path).text
    shown = clients("narrow").get(path)
    assert shown.status_code == 200
    assert "u-7" not in shown.text


def test_the_configuration_is_shown_without_secrets(clients: Clients) -> None:
    shown = clients("read").get("/v1/config").json()
    assert shown["chains"]["main"]["ingress_lists"] == ["urgent", "calls"]
    assert shown["storages"].keys() == {"files", "index"}


def test_hosts_are_asked_to_reload(admin: httpx.Client, clients: Clients, queue: Queue) -> None:
    assert admin.post("/v1/reload").status_code == 409, "no host is running"
    assert clients("operate").post("/v1/reload").status_code == 403
    beat(queue.client, name="box")
    queue.client.sadd(keys.HOSTS, "h1")
    queue.client.hset(keys.host("h1"), "started_at", "1")
    asked = admin.post("/v1/reload")
    assert asked.status_code == 202
    request = asked.json()["request"]
    [host] = asked.json()["hosts"]
    assert (host["name"], host["status"], host["at"]) == ("box", "asked", None)
    assert queue.client.hget(keys.CONTROL, keys.reload("h1", request)) == b"adm"
    refused = {"request": request, "at": 1_900_000_000, "refused": "chains: no"}
    told = orjson.dumps({"reload": refused})
    queue.client.hset(keys.host("h1"), "supervisor", told)
    [host] = admin.get(asked.headers["location"]).json()["hosts"]
    assert (host["status"], host["reason"]) == ("refused", "chains: no")
    assert host["at"] == "2030-03-17T17:46:40.000Z"
    assert admin.get("/v1/reloads/none").status_code == 404
