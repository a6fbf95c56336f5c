"""vcon-server's routes as a table: the code, shape and texts of each, at both prefixes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

import conserver
from tests.api.conftest import Api
from tests.api.vcon_server import HEADER, ODD, UUID, client, example
from tests.queues import Consumer, Queue

PREFIXES = ("", "/api")
MISSING = "0192ffff-193e-8231-b9a2-279e0d16bc46"


@pytest.fixture
def http(api: Api) -> Iterator[httpx.Client]:
    """A client with a token that may everything."""
    with client(api) as found:
        yield found


@dataclass
class Row:
    """A request, and what it is answered. before: what is done first."""

    method: str
    path: str
    status: int
    answer: Any = None
    query: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    before: Callable[[Queue], object] = lambda _: None


def _missing(place: str, name: str) -> Callable[[Any], bool]:
    def check(found: Any) -> bool:
        (one,) = found["detail"]
        return bool(one["type"] == "missing" and one["loc"] == [place, name] and one["msg"])

    return check


def _wrong(*place: str | int) -> Callable[[Any], bool]:
    return lambda found: found["detail"][0]["loc"] == list(place)


def _stored(queue: Queue) -> None:
    queue.store(UUID, json.dumps(example()).encode())


def _listed(queue: Queue) -> None:
    queue.client.zadd("vcons", {f"vcon:{UUID}": 1_729_002_064})
    _stored(queue)


def _dead(queue: Queue) -> None:
    queue.supply("calls", UUID)
    worker = Consumer(queue, lists=("calls",))
    worker.dead_letter(worker.one(), why="failed")


def _out(queue: Queue) -> None:
    queue.push("out", "one", "two", "three")


def _wrong_type(key: str) -> Callable[[Queue], None]:
    return lambda queue: queue.make_key(key, "hash")


def _stored_and_wrong(queue: Queue) -> None:
    _stored(queue)
    queue.make_key("calls", "hash")


def _text(detail: str) -> dict[str, str]:
    return {"detail": detail}


VERSION = {"version": conserver.__version__, "git_commit": "unknown", "build_time": "unknown"}
ONE = {"vcon_uuids": [UUID, MISSING]}
CALLS, OUT = {"ingress_list": "calls"}, {"egress_list": "out"}

TABLE = {
    "version": Row("GET", "/version", 200, VERSION),
    "depth": Row(
        "GET", "/stats/queue", 200, {"list_name": "calls", "depth": 1}, {"list_name": "calls"},
        before=lambda queue: queue.push("calls", UUID),
    ),
    "depth of nothing": Row(
        "GET", "/stats/queue", 200, {"list_name": "out", "depth": 0}, {"list_name": "out"}
    ),
    "depth of dead letters": Row(
        "GET", "/stats/queue", 200, {"list_name": "DLQ:calls", "depth": 1},
        {"list_name": "DLQ:calls"}, before=_dead,
    ),
    "depth of what is no list": Row(
        "GET", "/stats/queue", 500, _text("Failed to get queue depth"), {"list_name": "calls"},
        before=_wrong_type("calls"),
    ),
    "depth without a name": Row("GET", "/stats/queue", 422, _missing("query", "list_name")),
    "list": Row("GET", "/vcon", 200, [UUID], before=_listed),
    "list of nothing": Row("GET", "/vcon", 200, []),
    "list before": Row("GET", "/vcon", 200, [], {"until": "2024-01-01T00:00:00"}, before=_listed),
    "list after": Row("GET", "/vcon", 200, [UUID], {"since": "2024-01-01"}, before=_listed),
    "list of another page": Row("GET", "/vcon", 200, [], {"page": 2}, before=_listed),
    "list since never": Row("GET", "/vcon", 422, _wrong("query", "since"), {"since": "never"}),
    "list that is none": Row(
        "GET", "/vcon", 500, _text("Internal Server Error"), before=_wrong_type("vcons")
    ),
    "post": Row("POST", "/vcon", 201, example(), body=example()),
    "post onto lists": Row(
        "POST", "/vcon", 201, example(), {"ingress_lists": ["calls", "other"]}, example()
    ),
    "post nothing": Row("POST", "/vcon", 422, _wrong("body")),
    "post without uuid": Row("POST", "/vcon", 422, _wrong("body", "uuid"), body={"vcon": "0.0.1"}),
    "post an array": Row("POST", "/vcon", 422, _wrong("body"), body=[1]),
    "post onto what is no list": Row(
        "POST", "/vcon", 500, _text("Failed to store vCon"), {"ingress_lists": "calls"},
        example(), _wrong_type("calls"),
    ),
    "post over what is no document": Row(
        "POST", "/vcon", 500, _text("Failed to store vCon"), {}, example(),
        _wrong_type(f"vcon:{UUID}"),
    ),
    "get": Row("GET", f"/vcon/{UUID}", 200, example(), before=_stored),
    "get what is not there": Row("GET", f"/vcon/{UUID}", 404, _text("vCon not found")),
    "get no uuid": Row("GET", "/vcon/nothing", 422, _wrong("path", "vcon_uuid")),
    "get what cannot be a key": Row("GET", "/vcon/~~", 422, _wrong("path", "vcon_uuid")),
    "get what is no document": Row(
        "GET", f"/vcon/{UUID}", 500, _text("Internal Server Error"),
        before=_wrong_type(f"vcon:{UUID}"),
    ),
    "delete": Row("DELETE", f"/vcon/{UUID}", 204, before=_stored),
    "delete what is not there": Row("DELETE", f"/vcon/{UUID}", 204),
    "delete no uuid": Row("DELETE", "/vcon/nothing", 422, _wrong("path", "vcon_uuid")),
    "get several": Row("GET", "/vcons", 200, [example(), None], ONE, before=_stored),
    "get several of nothing": Row("GET", "/vcons", 422, _missing("query", "vcon_uuids")),
    "search": Row("GET", "/vcons/search", 200, [], {"tel": "+1"}),
    "search for nothing": Row(
        "GET", "/vcons/search", 400, _text("At least one search parameter must be provided")
    ),
    "ingress": Row("POST", "/vcon/ingress", 204, None, CALLS, [UUID], _stored),
    "ingress of nothing": Row("POST", "/vcon/ingress", 204, None, CALLS, []),
    "ingress of what is not there": Row("POST", "/vcon/ingress", 204, None, CALLS, [UUID]),
    "ingress without a list": Row(
        "POST", "/vcon/ingress", 422, _missing("query", "ingress_list"), body=[]
    ),
    "ingress of an object": Row("POST", "/vcon/ingress", 422, _wrong("body"), CALLS, {"a": 1}),
    "ingress of numbers": Row("POST", "/vcon/ingress", 422, _wrong("body", 0), CALLS, [1]),
    "ingress onto what is no list": Row(
        "POST", "/vcon/ingress", 500, _text("Failed to add to ingress list"), CALLS, [UUID],
        _stored_and_wrong,
    ),
    "egress": Row("GET", "/vcon/egress", 200, ["one"], OUT, before=_out),
    "egress of several": Row(
        "GET", "/vcon/egress", 200, ["one", "two", "three"], {**OUT, "limit": 9}, before=_out
    ),
    "egress of nothing": Row("GET", "/vcon/egress", 200, [], OUT),
    "egress without a list": Row("GET", "/vcon/egress", 422, _missing("query", "egress_list")),
    "egress of what is no list": Row(
        "GET", "/vcon/egress", 500, _text("Failed to pop from egress list"), OUT,
        before=_wrong_type("out"),
    ),
    "count": Row("GET", "/vcon/count", 200, 3, OUT, before=_out),
    "count of what is no list": Row(
        "GET", "/vcon/count", 500, _text("Failed to count egress list"), OUT,
        before=_wrong_type("out"),
    ),
    "dead letters": Row("GET", "/dlq", 200, [UUID], CALLS, before=_dead),
    "dead letters of nothing": Row("GET", "/dlq", 200, [], CALLS),
    "dead letters without a list": Row("GET", "/dlq", 422, _missing("query", "ingress_list")),
    "dead letters of what is no list": Row(
        "GET", "/dlq", 500, _text("Failed to read DLQ"), CALLS, before=_wrong_type("DLQ:calls")
    ),
    "reprocess": Row("POST", "/dlq/reprocess", 200, 1, CALLS, before=_dead),
    "reprocess nothing": Row("POST", "/dlq/reprocess", 200, 0, CALLS),
    "reprocess too few": Row(
        "POST", "/dlq/reprocess", 422, _wrong("query", "count"), {**CALLS, "count": 0}
    ),
    "reprocess too many": Row(
        "POST", "/dlq/reprocess", 422, _wrong("query", "count"), {**CALLS, "count": 100_001}
    ),
    "index": Row("GET", "/index_vcons", 200, 1, before=_stored),
    "index again": Row("POST", "/index_vcons", 200, 0),
    "external": Row(
        "POST", "/vcon/external-ingress", 403, _text("No ingress authentication configured"),
        CALLS, example(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES, ids=["at-the-root", "under-the-prefix"])
@pytest.mark.parametrize("name", TABLE)
def test_the_table(name: str, prefix: str, http: httpx.Client, queue: Queue) -> None:
    row = TABLE[name]
    row.before(queue)
    answer = http.request(
        row.method, prefix + row.path, params=row.query,
        content=None if row.body is None else json.dumps(row.body),
    )  # fmt: skip
    assert answer.status_code == row.status, answer.text
    assert answer.headers["x-vcon-server-version"] == conserver.__version__
    assert answer.headers["x-vcon-server-commit"] == "unknown"
    if row.status == 204:
        assert answer.content == b""
        return
    assert answer.headers["content-type"] == "application/json"
    if callable(row.answer):
        assert row.answer(answer.json()), answer.text
    else:
        assert answer.json() == row.answer


def test_what_was_posted_is_queued_and_worked_on(http: httpx.Client, queue: Queue) -> None:
    http.post("/vcon", params={"ingress_lists": ["calls", "other"]}, json=example())
    assert queue.waiting("calls") == queue.waiting("other") == [UUID.encode()]
    worker = Consumer(queue, lists=("calls",))
    item = worker.one()
    assert item.payload == UUID.encode()
    assert json.loads(queue.client.get(f"vcon:{UUID}")) == example()


def test_the_same_list_named_twice_gets_it_once(http: httpx.Client, queue: Queue) -> None:
    http.post("/vcon?ingress_lists=calls&ingress_lists=calls", json=example())
    assert queue.waiting("calls") == [UUID.encode()]


def test_a_trailing_slash_is_redirected(http: httpx.Client) -> None:
    answer = http.get("/vcon/count/", params=OUT)
    assert answer.status_code == 307
    assert answer.headers["location"].endswith("/vcon/count?egress_list=out")


def test_what_was_ingested_is_queued(http: httpx.Client, queue: Queue) -> None:
    queue.store(UUID)
    answer = http.post("/vcon/ingress", params=CALLS, json=[UUID, MISSING])
    assert answer.headers["x-conserver-skipped"] == "1"
    assert queue.waiting("calls") == [UUID.encode()]


@pytest.mark.parametrize("name", ODD)
def test_odd_documents_are_taken_and_told_of(name: str, http: httpx.Client) -> None:
    document, where = ODD[name]
    raw = json.dumps(document, indent=1).encode()
    answer = http.post("/vcon", content=raw)
    assert (answer.status_code, answer.content) == (201, raw)
    told = answer.headers.get_list("x-conserver-warning")
    assert [one.partition(":")[0] for one in told] == ([where] if where else [])
    assert http.get(f"/vcon/{document['uuid']}").content == raw
    assert http.get(f"/vcon/{document['uuid'].lower()}").status_code in (200, 404)


def test_documents_in_the_spelling_of_an_old_version(serve: Callable[..., Api]) -> None:
    new = {
        "vcon": "0.4.0",
        "uuid": UUID,
        "amended": {"uuid": "x"},
        "critical": ["a"],
        "dialog": [{"type": "recording", "mediatype": "audio/wav"}],
        "analysis": [{"type": "a", "schema": "1", "encoding": "json", "body": '{"a": 1}'}],
        "attachments": [{"purpose": "tags", "encoding": "json", "body": '["a:b"]'}],
    }
    old = {
        "vcon": "0.0.1",
        "uuid": UUID,
        "group": [],
        "redacted": {},
        "appended": {"uuid": "x"},
        "must_support": ["a"],
        "dialog": [{"type": "recording", "mimetype": "audio/wav"}],
        "analysis": [{"type": "a", "schema_version": "1", "encoding": "none", "body": {"a": 1}}],
        "attachments": [{"type": "tags", "encoding": "none", "body": ["a:b"]}],
    }
    api = serve(EGRESS_FORMAT_VERSION="0.0.1")
    with client(api) as http:
        assert http.post("/vcon", json=new).json() == new
        assert http.get(f"/vcon/{UUID}").json() == old
        assert http.get("/vcons", params={"vcon_uuids": UUID}).json() == [old]
        assert http.get(f"/v1/vcons/{UUID}").json() == new


def test_what_is_nested_too_deeply_to_be_converted_is_answered_as_it_is(
    serve: Callable[..., Api],
) -> None:
    """A body that is a text alone, or else the whole document."""
    bodies = ["[" * depth + "]" * depth for depth in (251, 252, 900)]
    parts = [{"encoding": "json", "mediatype": "a/b", "body": body} for body in bodies]
    raw = json.dumps({"uuid": UUID, "attachments": parts}).encode()
    with client(serve(EGRESS_FORMAT_VERSION="0.0.1")) as http:
        http.post("/vcon", content=raw)
        first, *others = http.get(f"/vcon/{UUID}").json()["attachments"]
        assert first == {"encoding": "none", "mimetype": "a/b", "body": json.loads(bodies[0])}
        assert others == [
            {"encoding": "json", "mimetype": "a/b", "body": body} for body in bodies[1:]
        ]
        for body in bodies[1:]:
            raw = f'{{"uuid": "{UUID}", "attachments": [{{"body": {body}}}]}}'.encode()
            assert http.post("/vcon", content=raw).status_code == 201
            assert http.get(f"/vcon/{UUID}").content == raw


def test_the_version_is_that_of_the_environment(serve: Callable[..., Api]) -> None:
    said = {"version": "2.3", "git_commit": "abc\r\nx", "build_time": "2026"}
    api = serve(**{f"VCON_SERVER_{name.upper()}": text for name, text in said.items()})
    with client(api, "") as http:
        answer = http.get("/version")
    assert answer.json() == said
    assert answer.headers["x-vcon-server-version"] == "2.3"
    assert answer.headers["x-vcon-server-commit"] == "abcx"


def test_errors_of_ours_are_problems_and_have_no_version(http: httpx.Client) -> None:
    answer = http.get("/v1/vcons/nothing")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "x-vcon-server-version" not in answer.headers


def test_its_routes_are_not_described_among_ours(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path.startswith(("/vcon", "/dlq", "/config", "/stats"))]


def test_another_header_may_carry_the_token(serve: Callable[..., Api]) -> None:
    api = serve(CONSERVER_HEADER_NAME="x-key")
    for name, status in (("x-key", 200), (HEADER, 403)):
        answer = httpx.get(f"{api.url}/vcon", headers={name: "text-read"}, timeout=60)
        assert answer.status_code == status
