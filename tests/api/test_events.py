"""Following a job live: server-sent events and the WebSocket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.api.conftest import Api, submitted
from tests.helpers import eventually
from tests.queues import Consumer

Clients = Callable[[str], httpx.Client]


def events(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(id, job) of each event."""
    number = 0
    for line in lines:
        if line.startswith("id: "):
            number = int(line.removeprefix("id: "))
        if line.startswith("data: "):
            yield number, json.loads(line.removeprefix("data: "))


def test_a_stream_tells_every_step_to_the_end(
    submit: httpx.Client, worker: Consumer, api: Api
) -> None:
    links = submitted(submit)["links"]
    with submit.stream("GET", links["events"]) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        seen = events(answer.iter_lines())
        assert next(seen)[1]["status"] == "queued"
        item = worker.one()
        assert next(seen)[1]["status"] == "processing"
        worker.settle(item)
        assert next(seen)[1]["status"] == "completed"
        assert list(seen) == []
    eventually(lambda: len(api.context.subscriptions) == 0)


def test_who_comes_back_gets_nothing_twice(submit: httpx.Client, worker: Consumer) -> None:
    links = submitted(submit)["links"]
    with submit.stream("GET", links["events"]) as answer:
        number, _ = next(events(answer.iter_lines()))
    worker.settle(worker.one())
    headers = {"Last-Event-ID": str(number)}
    with submit.stream("GET", links["events"], headers=headers) as answer:
        [(later, job)] = list(events(answer.iter_lines()))
    assert later > number
    assert job["status"] == "completed"
    with submit.stream("GET", links["events"], headers={"Last-Event-ID": str(later)}) as answer:
        assert list(events(answer.iter_lines())) == []


@pytest.mark.parametrize("given", ["²", "-1", "x", "9" * 5000])
def test_an_event_id_that_is_none_begins_anew(
    submit: httpx.Client, worker: Consumer, given: str
) -> None:
    links = submitted(submit)["links"]
    worker.settle(worker.one())
    headers = {b"Last-Event-ID": given.encode("latin-1", "replace")}
    with submit.stream("GET", links["events"], headers=headers) as answer:
        assert [job["status"] for _, job in events(answer.iter_lines())] == ["completed"]


def test_a_slow_reader_holds_back_nobody(submit: httpx.Client, worker: Consumer, api: Api) -> None:
    links = submitted(submit)["links"]
    with socket.create_connection((api.host, api.port)) as slow:
        request = f"GET {links['events']} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer text-submit"
        slow.sendall(request.encode() + b"\r\n\r\n")  # And never reads.
        eventually(lambda: len(api.context.subscriptions) == 1)
        with submit.stream("GET", links["events"]) as answer:
            seen = events(answer.iter_lines())
            next(seen)
            item = worker.one()
            next(seen)
            worker.settle(item)
            assert next(seen)[1]["status"] == "completed"
    eventually(lambda: len(api.context.subscriptions) == 0)


def test_streams_end_when_the_process_stops(serve: Callable[..., Api]) -> None:
    api = serve()
    with api.client("submit") as client:
        links = submitted(client)["links"]
        with client.stream("GET", links["events"]) as answer:
            seen = events(answer.iter_lines())
            assert next(seen)[1]["status"] == "queued"
            api.begin_stop()
            assert list(seen) == []


def test_long_polls_end_when_the_process_stops(serve: Callable[..., Api]) -> None:
    api = serve()
    found: list[httpx.Response] = []
    with api.client("submit") as client:
        path = submitted(client)["links"]["self"]
        poll = threading.Thread(target=lambda: found.append(client.get(path, params={"wait": 60})))
        poll.start()
        eventually(lambda: len(api.context.subscriptions) == 1)
        api.begin_stop()
        poll.join(60)
    assert found[0].json()["status"] == "queued"


def test_a_stream_of_a_strangers_job_is_not_there(clients: Clients) -> None:
    links = submitted(clients("submit"))["links"]
    assert clients("other").get(links["events"]).status_code == 404
    assert clients("").get(links["events"]).status_code == 401


def test_a_websocket_tells_the_same(submit: httpx.Client, worker: Consumer, api: Api) -> None:
    job = submitted(submit)["id"]
    address = f"ws://{api.host}:{api.port}/ws/jobs/{job}"
    with connect(address, subprotocols=["bearer.text-submit"]) as web:  # type: ignore[list-item]
        assert json.loads(web.recv(60))["status"] == "queued"
        item = worker.one()
        assert json.loads(web.recv(60))["status"] == "processing"
        worker.settle(item)
        assert json.loads(web.recv(60))["status"] == "completed"
        assert list(web) == []
        assert web.close_code == 1000
    eventually(lambda: len(api.context.subscriptions) == 0)


def test_a_websocket_that_leaves_is_forgotten(
    submit: httpx.Client, api: Api, worker: Consumer
) -> None:
    job = submitted(submit)["id"]
    address = f"ws://{api.host}:{api.port}/ws/jobs/{job}"
    with connect(address, additional_headers={"Authorization": "Bearer text-submit"}) as web:
        web.recv(60)
    worker.one()
    eventually(lambda: len(api.context.subscriptions) == 0)


@pytest.mark.parametrize(
    ("token", "status"), [("", 401), ("bearer.text-other", 404), ("bearer.wrong", 401)]
)
def test_a_websocket_is_refused(submit: httpx.Client, api: Api, token: str, status: int) -> None:
    job = submitted(submit)["id"]
    address = f"ws://{api.host}:{api.port}/ws/jobs/{job}"
    offered: Any = [token] if token else None
    with pytest.raises(InvalidStatus) as caught, connect(address, subprotocols=offered):
        pass
    assert caught.value.response.status_code == status


def test_a_websocket_is_one_guess(submit: httpx.Client, api: Api) -> None:
    job = submitted(submit)["id"]
    address = f"ws://{api.host}:{api.port}/ws/jobs/{job}"
    guesses: Any = ["bearer.guess", "bearer.text-submit"]
    with pytest.raises(InvalidStatus) as caught, connect(address, subprotocols=guesses):
        pass
    assert caught.value.response.status_code == 401
