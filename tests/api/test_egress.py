"""/v1/egress: what has come out is read, and leaves its list when it is acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import Api
from tests.queues import Queue

Clients = Callable[[str], httpx.Client]


def test_what_is_not_acknowledged_is_read_again(clients: Clients, queue: Queue) -> None:
    queue.push("out", "a", "b", "c", "b")
    with clients("operate") as http:
        for _ in range(2):
            answer = http.get("/v1/egress/out", params={"limit": 3})
            assert answer.json() == {"uuids": ["a", "b", "c"]}
        done = http.post("/v1/egress/out/acknowledge", json={"uuids": ["a", "b", "gone"]})
        assert done.json() == {"acknowledged": 2}
        assert http.get("/v1/egress/out").json() == {"uuids": ["c", "b"]}
    assert queue.waiting("out") == [b"c", b"b"]


def test_nothing_has_come_out(clients: Clients) -> None:
    with clients("operate") as http:
        assert http.get("/v1/egress/out").json() == {"uuids": []}
        done = http.post("/v1/egress/out/acknowledge", json={"uuids": []})
        assert done.json() == {"acknowledged": 0}


@pytest.mark.parametrize(
    ("name", "role", "status"),
    [
        ("calls", "operate", 409),
        ("ot", "operate", 404),
        ("conserver:audit", "operate", 404),
        ("out", "submit", 403),
        ("out", "narrow", 403),
        ("out", "", 401),
    ],
)
def test_which_lists_and_who(
    clients: Clients, queue: Queue, name: str, role: str, status: int
) -> None:
    queue.push("calls", "a")
    http = clients(role)
    answer = http.get(f"/v1/egress/{name}")
    assert answer.status_code == status
    body = {"uuids": ["a"]}
    assert http.post(f"/v1/egress/{name}/acknowledge", json=body).status_code == status
    assert queue.waiting("calls") == [b"a"]


@pytest.mark.parametrize("body", [{}, {"uuids": "a"}, {"uuids": [1]}, {"uuids": ["a"] * 1001}])
def test_what_is_no_acknowledgement(clients: Clients, body: dict[str, Any]) -> None:
    assert clients("operate").post("/v1/egress/out/acknowledge", json=body).status_code == 422


def test_who_may_read_may_not_acknowledge(clients: Clients) -> None:
    assert clients("read").get("/v1/egress/out").status_code == 200
    body = {"uuids": ["a"]}
    assert clients("read").post("/v1/egress/out/acknowledge", json=body).status_code == 403


def test_a_list_that_is_none(serve: Callable[..., Api], queue: Queue) -> None:
    queue.make_key("out", "hash")
    with serve().client("operate") as http:
        assert http.get("/v1/egress/out").status_code == 503
