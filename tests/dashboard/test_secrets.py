"""A secret in Redis leaves by no route: not of the API, not of the dashboard, not in a stream."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from websockets.sync.client import connect

from conserver.http.dashboard.app import MODULES
from conserver.queue import calls, keys, stories
from conserver.queue.stories import Attempt, Event
from conserver.telemetry.redact import hide_everywhere
from tests.api.conftest import Api, document, submitted
from tests.dashboard.visitor import Visitors
from tests.queues import Consumer, Queue

CORE = "7qwalkz9"
SECRET = f'Zq"<&\\é{CORE}'
"""A registered secret. Its first characters differ in JSON, in HTML and in an address."""
PASSWORD = "urlpw5xq"
TEXT = f"login with {SECRET} at https://ann:{PASSWORD}@host.example/ failed"
LIST = f"list {SECRET}"
REQUEST = "00000000001-00000000"
FIELDS = {"error": TEXT, "reason": "failed", "link": SECRET, "storage": SECRET, "doing": TEXT}
ERRORS_ONLY = {
    "GET /", "GET /ui", "GET /v1/uploads/{upload_id}", "GET /v1/jobs/{job}/result",
    "GET /ui/items", "GET /ui/items/{uuid}/dialogs/{number}/recording",
    "POST /config", "POST /ui/login", "POST /vcon", "POST /vcon/external-ingress",
    "POST /vcon/ingress", "POST /v1/audio/transcriptions", "POST /v1/audio/translations",
    "POST /v1/documents", "POST /v1/jobs", "POST /v1/vcons", "PUT /v1/uploads/{upload_id}",
    "PUT /v1/vcons/{uuid}",
}  # fmt: skip
"""Routes that answer with an error, or lead to another one: what they give else is a document, or
about what the client has sent.
"""


pytestmark = pytest.mark.usefixtures("forgets_secrets")


@pytest.fixture
def planted(api: Api, queue: Queue, worker: Consumer) -> dict[str, list[str]]:
    """Puts the texts where errors, stories and names are in Redis; what routes may be asked for."""
    hide_everywhere([SECRET])
    with api.client("submit") as client:
        jobs = [submitted(client) for _ in range(4)]
    dead, _, running, _ = jobs
    item, later, _ = worker.take(3)
    why = {**FIELDS, "uuid": dead["uuid"], "time_ms": 1, "traceback": TEXT, "attempts": 1}
    move = calls.Move(item.token, item.epoch, b"=", item.revision, why=orjson.dumps(why))
    worker.send(calls.move("dead", worker.id, [move], 60_000))
    state = orjson.dumps({"attempts": 1, "error": TEXT, "links": [TEXT]})
    worker.park(later, after_ms=3_600_000, state=state)
    put = queue.client
    told = orjson.dumps({**FIELDS, "done": 1, "unit": TEXT})
    for job in jobs:
        fields = {"error": told, "progress": told, "link": TEXT, "by": TEXT}
        ended = {"notification": "failed", "notification_error": told}
        put.hset(keys.job(job["id"]), mapping={**fields, **(ended if job is dead else {})})
    events = [Event(kind, TEXT, 1, 2, TEXT, good=False) for kind in ("link", "failed")]
    for job in jobs:
        one = Attempt(TEXT, 1, job["id"], "calls", TEXT, "h1", "c", 1, events=events)
        for command in stories.commands(job["uuid"], one, 60):
            put.execute_command(*command)
    put.sadd(keys.LISTS, LIST)
    put.rpush(LIST, "u1")
    worker_fields = {
        "slot": 1, "pid": 7, "consumer": worker.id, "state": "working", "held": 1, "away": [0],
        "ended": TEXT, "ended_at": 1, "started_at": 1, "restarts": 9, "backoff_s": 0, "idle": False,
        "done": 1, "failed": 1, "rss_bytes": 1,
        "items": [{"uuid": running["uuid"], "chain": TEXT, "link": TEXT, "phase": "running",
                   "since_s": 4000.5, "label": TEXT}],
    }  # fmt: skip
    put.hset(keys.host(worker.host), mapping={
        "name": TEXT, "beat": f"{int(time.time() * 1000)}.1", "lease_s": "3600", "version": TEXT,
        "state": "running", "lists": json.dumps(["calls", LIST]), "storages": '["files"]',
        "workers": json.dumps([{**worker_fields, "away": ["files"]}]),
        "started_at": "0", "away": '{"files": 1}', "away_reasons": json.dumps({"files": TEXT}),
        "links": json.dumps({TEXT: {TEXT: [9, 9.0]}}),
        "supervisor": json.dumps({
            "reload": {"request": REQUEST, "refused": TEXT, "at": 1},
            "transcribers": [{
                "slot": 1, "pid": 1, "state": TEXT, "device": TEXT, "ended": TEXT, "restarts": 1,
                "windows": 1, "slots": 1, "busy": 1, "waiting": 1, "memory_bytes": 1}],
            "page_readers": [{"slot": 1, "pid": 1, "state": TEXT, "ended": TEXT}]}),
    })  # fmt: skip
    put.hset(keys.CONTROL, keys.paused("calls"), f"1 {TEXT}")
    put.hset(keys.schedule("nightly"), mapping={
        "last_ms": 1, "last_time": 1, "trouble": TEXT, "host": TEXT})  # fmt: skip
    result = orjson.dumps({"error": TEXT, "done": 1})
    put.hset(keys.schedule("never"), mapping={"last_ms": 1, "last_time": 1, "last_result": result})
    told = orjson.dumps({"text": TEXT})
    put.hset(keys.operation("op1"), mapping={
        "kind": "purge", "status": "failed", "error": TEXT, "by": TEXT, "filter": told,
        "left_out": orjson.dumps({TEXT: 1})})  # fmt: skip
    put.zadd(keys.OPERATIONS, {"op1": 1})
    began = {"kind": "purge", "error": TEXT, "by": TEXT, "filter": orjson.dumps({"error": "none"})}
    put.hset(keys.operation("dry"), mapping={**began, "status": "done", "dry_run": 1})
    soon_ms = int(time.time() * 1000) + 3_600_000  # It does not fall silent within the test.
    put.hset(keys.operation("runs"), mapping={**began, "status": "running", "updated_ms": soon_ms})
    entry = {"at": 1, "actor": TEXT, "action": TEXT, "target": {TEXT: TEXT}, "count": 1}
    put.rpush(keys.AUDIT, orjson.dumps(entry))
    return {
        "job": [job["id"] for job in jobs],
        "uuid": [job["uuid"] for job in jobs],
        "vcon_uuid": [dead["uuid"]],
        "name": ["calls", "out", "nightly", "never", REQUEST, quote(LIST)],
        "host": [worker.host],
        "slot": ["1"],
        "slot:int": ["1"],
        "operation": ["op1", "runs"],
        "id": ["op1", "dry", "runs"],
        "request": [REQUEST],
        "number": ["0"],
        "upload_id": ["u1"],
        "model:path": ["whisper-1", quote(SECRET)],
        "act": ["run"],
    }


QUERY = {
    "list_name": "calls", "egress_list": "out", "ingress_list": "calls", "vcon_uuids": "u1",
    "name": SECRET, "q": "parcel", "id": SECRET, "next": SECRET, "live": "1",
}  # fmt: skip
BODIES: dict[str, Any] = {
    "/v1/operations": {"kind": "requeue", "everything": True},
    "/v1/lists/{name}/empty": {"everything": True, "dry_run": True},
    "/v1/egress/{name}/acknowledge": {"uuids": ["u1"]},
}
"""What these routes have to be sent, so that they do what they are for."""


def paths(path: str, values: dict[str, list[str]]) -> list[str]:
    """The path with each value of its parameter."""
    head, brace, rest = path.partition("{")
    if not brace:
        return [path]
    name, _, tail = rest.partition("}")
    return [head + value + end for value in values[name] for end in paths(tail, values)]


def routes_of(api: Api) -> list[tuple[str, str]]:
    """Method and path of every route, and of every stream; first those that change nothing."""
    pages = [page for module in MODULES for page in module.pages.pages]
    found = [(page.method, f"/ui{page.path}") for page in pages]
    for route in api.routes:
        found += [(method, route.path) for method in getattr(route, "methods", None) or ()]
    last = ("DELETE /", "POST /ui/logout")
    return sorted(found, key=lambda one: (one[0] != "GET", " ".join(one).startswith(last), one))


def said(
    client: httpx.Client, method: str, path: str, query: dict[str, str], **sent: Any
) -> tuple[int, str]:
    """The status, and the headers with the text of an answer; of a stream the first event.

    The text begins with the redirections that led to the answer. There, the name of the list may
    stand in an address, because the path of the request contains it.
    """
    with client.stream(method, path, params=query or None, **sent) as answer:
        is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
        text = "".join(f"{one.headers}{one.text}" for one in answer.history)
        text = text.replace(quote(LIST), "") + str(answer.headers)
        for line in answer.iter_lines():
            text += line + "\n"
            if is_stream and "\ndata:" in text and not line:
                break
        return answer.status_code, text


def test_a_secret_leaves_by_no_route(
    api: Api, planted: dict[str, list[str]], visitors: Visitors
) -> None:
    leaks, unseen = set(), set()
    for job in planted["job"]:
        address = f"ws://{api.host}:{api.port}/ws/jobs/{job}"
        with connect(address, subprotocols=["bearer.text-admin"]) as web:  # type: ignore[list-item]
            text = str(web.recv(60))
        assert job in text
        leaks |= {("WS", job, one) for one in (CORE, PASSWORD) if one in text}
    visitor = visitors("admin")
    csrf = dict(next(iter(visitor.get().forms.values())).fields)["csrf"]
    form = {"csrf": csrf, "kind": "requeue", "list": "calls"}
    with api.client("admin") as client:
        for method, route in routes_of(api):
            good, sent = False, dict[str, Any]()
            if method in ("POST", "PUT"):
                sent = {"json": BODIES.get(route, {})}
                if route.startswith("/ui"):  # The answer leads to a page.
                    sent = {"data": form, "follow_redirects": True}
            for path in paths(route, planted):
                for query in ({}, QUERY):
                    http = visitor.http if path.startswith("/ui") else client
                    status, text = said(http, method, path, query, **sent)
                    assert status != 500, path
                    leaks |= {(method, route, one) for one in (CORE, PASSWORD) if one in text}
                    good = good or status < 300
            if not good and method != "HEAD":
                unseen.add(f"{method} {route}")
    assert not leaks
    assert unseen == ERRORS_ONLY


def test_what_a_client_owns_leaves_as_it_is(
    api: Api, queue: Queue, worker: Consumer, visitors: Visitors
) -> None:
    hide_everywhere([SECRET])
    own = f"{TEXT} https://store.example/a?X-Amz-Signature=s"
    analysis = {"type": "transcript", "dialog": 0, "encoding": "none", "body": own}
    raw = document(subject=own, analysis=[analysis])
    with api.client("admin") as client:
        job = client.post("/v1/vcons", params={"list": "calls"}, content=raw).json()
        worker.settle(worker.one())
        uuid, result = job["uuid"], job["links"]["result"]
        offer = client.post("/v1/uploads").json()
        client.put(offer["url"], content=own, headers={"Content-Type": "text/plain"})
        for path, query, wanted in (
            (f"/v1/vcons/{uuid}", "", raw),
            (result, "format=vcon", raw),
            (result, "format=text", f"{own}\n".encode()),
            (offer["url"], "", own.encode()),
            (f"/vcon/{uuid}", "", raw),
            ("/vcons", f"vcon_uuids={uuid}", b"[" + raw + b"]"),
        ):
            assert client.get(path, params=query).content == wanted, path
        assert json.loads(client.post("/vcon", content=raw).content)["subject"] == own
        queue.push("out", own)
        assert client.get("/v1/egress/out").json() == {"uuids": [own]}
        taken = client.get("/vcon/egress", params={"egress_list": "out", "limit": 9})
        assert taken.json() == [own]
        assert client.get("/openapi.json").json() == api.described
    visitor = visitors("admin")
    assert visitor.http.get(f"/ui/items/{uuid}/vcon.json").content == raw
    assert visitor.get(f"items/{uuid}").text.count(own) >= 2, "the transcript, and the document"
