"""Traces of the whole command, taken by an OTLP receiver, under every start method."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.clients import http_client
from tests.collector import ENVIRONMENT, Collector, Received
from tests.daemon import Daemon, elements, push, vcon
from tests.helpers import eventually, free_port
from tests.process.items import arrived, runs
from tests.process.test_daemon import trouble
from tests.standins import Answer, Request, Standin

Start = Callable[..., Daemon]
LONG_S = 60
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
"""The ids of the W3C recommendation's example."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def start(redis_url: str, tmp_path: Path, collector: Collector) -> Iterator[Start]:
    """Starts daemons that send their spans to the collector."""
    with ExitStack() as stack:

        def launch(method: str = "fork", config: Any = None, **environment: Any) -> Daemon:
            given: dict[str, Any] = {**collector.environment, **environment}
            config = config or trouble(redis_url)
            daemon = Daemon(tmp_path / "host", redis_url, config, method, **given)
            return stack.enter_context(daemon)

        yield launch


def only(spans: list[Received]) -> Received:
    assert len(spans) == 1, spans
    return spans[0]


def with_file(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration with a storage, so that items are also stored."""
    config["storages"] = {"disk": {"module": "storage.file", "options": {"path": str(folder)}}}
    config["chains"]["main"]["storages"] = ["disk"]
    return config


def children_of(collector: Collector, parent: Received) -> set[str]:
    """The names of the spans below one that have arrived."""
    return {span.name for span in collector.trace(parent.trace) if span.parent == parent.id}


def held(client: redis.Redis) -> int:
    """How many items are in flight."""
    return sum(client.hlen(key) for key in client.keys("conserver:inflight:*"))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_item_is_one_trace_from_its_claim_to_its_end(
    method: str,
    start: Start,
    collector: Collector,
    client: redis.Redis,
    redis_url: str,
    tmp_path: Path,
) -> None:
    daemon = start(method, with_file(trouble(redis_url), tmp_path / "stored"))
    [uuid] = push(client, "in", [vcon()])
    daemon.until(arrived(client, [uuid]))
    process = only(collector.wait_for("process in"))
    settle = only(collector.wait_for("settle"))
    assert (process.kind, process.parent, process.error) == ("consumer", "", "")
    children = {"link trouble", "link tag", "write disk", "write", "settle"}
    eventually(lambda: children_of(collector, process) == children)
    assert settle.parent == process.id
    # On a busy machine the item may be released and claimed again before it begins.
    eventually(
        lambda: [(process.trace, process.id)] in [one.links for one in collector.named("claim")]
    )
    assert process.attributes["messaging.message.conversation_id"] == uuid
    assert process.attributes["messaging.destination.name"] == "in"
    assert process.attributes["conserver.outcome"] == "done"
    assert process.resource["service.name"] == "conserver"
    assert process.resource["conserver.role"] == "worker"
    done = daemon.event("done", vcon=uuid)
    assert (done["trace_id"], done["span_id"]) == (process.trace, process.id)


def test_attempts_are_in_one_trace_and_linked(
    start: Start, collector: Collector, client: redis.Redis, redis_url: str
) -> None:
    daemon = start("fork", trouble(redis_url, retries=1))
    [uuid] = push(client, "in", [vcon(subject="fail:it is broken")])
    daemon.until(lambda: client.llen("DLQ:in") == 1)
    first, second = collector.wait_for("process in", 2)
    assert (first.attributes["conserver.outcome"], second.attributes["conserver.outcome"]) == (
        "parked",
        "dead_letter",
    )
    assert second.trace == first.trace
    assert second.links == [(first.trace, first.id)]
    assert second.error
    link = only([s for s in collector.named("link trouble") if s.parent == first.id])
    assert link.error
    failed = daemon.event("attempt_failed", vcon=uuid)
    assert (failed["trace_id"], failed["span_id"]) == (first.trace, first.id)


def test_the_span_of_an_item_that_a_shutdown_releases_is_sent(
    start: Start, collector: Collector, client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    """The item's document is found only while the worker drains and its one thread is busy."""
    config, found, gate = trouble(redis_url), tmp_path / "found", tmp_path / "gate"
    options = {"redis_url": redis_url, "timeout_s": 120, "get_gate": str(found)}
    config["storages"] = {"disk": {"module": "tests.modules.cellar", "options": options}}
    config["chains"]["main"]["storages"] = ["disk"]
    environment = {"CONSERVER_VCON_CONCURRENCY": "1", "CONSERVER_SHUTDOWN_TIMEOUT_S": "120"}
    daemon = start("fork", config, **environment)
    document = vcon()
    client.hset("cellar", document["uuid"], json.dumps(document))
    client.rpush("in", document["uuid"])
    daemon.until(lambda: held(client) == 1)
    [running] = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, running) == 1)
    daemon.signal(signal.SIGTERM)
    daemon.event("draining", worker=1)
    found.touch()
    daemon.until(lambda: held(client) == 1)
    gate.touch()
    assert daemon.wait() == 0
    outcomes = {
        span.attributes["messaging.message.conversation_id"]: span.attributes["conserver.outcome"]
        for span in collector.spans
        if span.name == "process in"
    }
    assert outcomes == {document["uuid"]: "released", running: "done"}


def test_an_item_whose_worker_was_killed_keeps_its_trace(
    start: Start, collector: Collector, client: redis.Redis, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    daemon = start()
    [uuid] = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    claim = collector.wait_for("claim")[-1]
    daemon.signal(signal.SIGKILL, daemon.worker())
    gate.touch()
    daemon.until(arrived(client, [uuid]))
    process = only(collector.wait_for("process in"))
    # The killed attempt could tell nothing; the claim that began it names the same trace.
    assert claim.links[0][0] == process.trace
    assert claim.links[0][1] != process.id
    returned = only(collector.wait_for("return items"))
    assert returned.resource["conserver.role"] == "coordinator"


def test_a_request_its_job_and_its_webhook_are_one_trace(
    start: Start, collector: Collector, client: redis.Redis, redis_url: str
) -> None:
    port = free_port()
    with Standin(lambda _request: Answer(200)) as hook:
        config = trouble(redis_url)
        config["links"]["tag"] = {"module": "links.webhook", "options": {"urls": [hook.url]}}
        daemon = start("fork", config, CONSERVER_API_PORT=str(port))
        daemon.event("api_listens", LONG_S)
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/vcons",
            params={"list": "in"},
            json=vcon(),
            headers={"traceparent": f"00-{TRACE}-{SPAN}-01"},
            timeout=LONG_S,
        )
        assert answer.status_code == 202
        eventually(lambda: hook.requests, LONG_S)
        [call] = hook.requests
    process = only(collector.wait_for("process in"))
    request = only(collector.wait_for("POST /v1/vcons"))
    send = only(collector.wait_for("send in"))
    post = only(collector.wait_for("POST"))
    assert {span.trace for span in (process, request, send, post)} == {TRACE}
    assert (request.parent, send.parent, process.parent) == (SPAN, request.id, send.id)
    assert (request.kind, send.kind, request.resource["conserver.role"]) == (
        "server",
        "producer",
        "api",
    )
    link = only([s for s in collector.named("link tag") if s.id == post.parent])
    assert link.parent == process.id
    assert call.headers["traceparent"] == f"00-{TRACE}-{post.id}-01"
    line = daemon.event("http_request", path="/v1/vcons")
    assert (line["trace_id"], line["span_id"]) == (TRACE, request.id)


def test_vcon_servers_context_lists_are_read_and_left(
    start: Start, collector: Collector, client: redis.Redis, redis_url: str
) -> None:
    config = trouble(redis_url)
    config["chains"]["next"] = {
        "links": ["tag"],
        "ingress_lists": ["out"],
        "egress_lists": ["far"],
    }
    document = vcon()
    key = f"context:in:{document['uuid']}"
    note = {"trace_id": TRACE, "span_id": SPAN, "trace_flags": 1, "is_sampled": True}
    client.rpush(key, json.dumps(note), "left for another copy")
    daemon = start("fork", config, VCON_CONTEXT_EXPIRY="900")
    [uuid] = push(client, "in", [document])
    daemon.until(lambda: elements(client, "far") == [uuid])
    first, second = only(collector.wait_for("process in")), only(collector.wait_for("process out"))
    assert first.links == [(TRACE, SPAN)]
    assert second.links == [(first.trace, first.id)], "the next chain took what the first has left"
    assert client.lrange(key, 0, -1) == [b"left for another copy"], "one is taken per item"
    assert not client.exists(f"context:out:{uuid}")
    left = f"context:far:{uuid}"
    [text] = client.lrange(left, 0, -1)
    assert (
        json.loads(text)
        == {
            "trace_id": second.trace,
            "span_id": second.id,
            "trace_flags": 1,
            "is_sampled": True,
        }
        or json.loads(text)["span_id"] == second.id
    )
    assert 0 < client.ttl(left) <= 900


def test_what_is_no_context_stops_nothing(
    start: Start, collector: Collector, client: redis.Redis
) -> None:
    documents = [vcon() for _ in range(4)]
    names = [f"context:in:{document['uuid']}" for document in documents]
    client.set(names[0], "a string")
    client.rpush(names[1], "no JSON")
    client.rpush(names[2], json.dumps({"trace_id": "xyz", "span_id": 7}))
    client.rpush(names[3], json.dumps(["a list"]))
    daemon = start()
    uuids = push(client, "in", documents)
    daemon.until(arrived(client, uuids))
    assert [span.links for span in collector.wait_for("process in", 4)] == [[], [], [], []]


def test_a_batch_is_linked_to_its_items(
    start: Start, collector: Collector, client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    """The first write waits until the other items have run, so that they wait for the next one."""
    config, gate = trouble(redis_url), tmp_path / "gate"
    options = {"redis_url": redis_url}
    config["storages"] = {"disk": {"module": "tests.modules.cellar", "options": options}}
    config["chains"]["main"]["storages"] = ["disk"]
    daemon = start("fork", config)
    uuids = push(client, "in", [{**vcon(), "storing": f"gate:{gate}"}])
    daemon.until(lambda: client.llen("batches") == 1)
    uuids += push(client, "in", [vcon() for _ in range(39)])
    daemon.until(lambda: all(runs(client, uuid) == 1 for uuid in uuids))
    gate.touch()
    daemon.until(arrived(client, uuids))
    items = {span.id: span for span in collector.wait_for("process in", 40)}
    assert len({span.trace for span in items.values()}) == 40
    writes = collector.wait_for("write disk", 40)
    batches = {span.id: span for span in writes if not span.parent}
    assert batches, "the items that waited were written together"
    for span in writes:
        if span.id in batches:
            assert {link[1] for link in span.links} <= items.keys()
            assert len(span.links) == span.attributes["db.operation.batch.size"]
        elif span.links:
            assert span.parent in items
            assert span.links[0][1] in batches

    def claimed() -> set[str]:
        return {link[1] for span in collector.named("claim") for link in span.links}

    # As above, some may have been claimed before and released.
    eventually(lambda: items.keys() <= claimed())


def test_a_dead_collector_stops_nothing_and_is_told_of_once(
    redis_url: str, tmp_path: Path, client: redis.Redis
) -> None:
    environment: dict[str, Any] = {
        **ENVIRONMENT,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:secret@127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    with Daemon(tmp_path / "host", redis_url, trouble(redis_url), "fork", **environment) as daemon:
        for _ in range(3):
            uuids = push(client, "in", [vcon() for _ in range(20)])
            daemon.until(lambda: set(elements(client, "out")).issuperset(uuids))  # noqa: B023
            daemon.event("traces_dropped", LONG_S, worker=1)
        [told] = daemon.events("traces_dropped", worker=1)
        assert told["dropped"] > 0
        assert "secret" not in daemon.log_file.read_text()
        assert daemon.stop() == 0


def test_a_collector_that_never_answers_stops_nothing(
    start: Start, collector: Collector, client: redis.Redis
) -> None:
    gate = threading.Event()

    def wait(_request: Request) -> Answer:
        gate.wait(LONG_S)
        return Answer(503)

    collector.answer = wait
    try:
        daemon = start(OTEL_BSP_MAX_QUEUE_SIZE="50")
        uuids = push(client, "in", [vcon() for _ in range(200)])
        daemon.until(arrived(client, uuids))
        began_s = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began_s < LONG_S - 10, "the end waits only so long"
    finally:
        gate.set()


def test_spans_are_taken_again_after_an_outage(
    start: Start, collector: Collector, client: redis.Redis
) -> None:
    collector.answer = lambda _request: Answer(400)
    daemon = start()
    push(client, "in", [vcon() for _ in range(5)])
    dropped = daemon.event("traces_dropped", LONG_S, worker=1)
    assert dropped["endpoint"] == collector.url
    collector.answer = None
    push(client, "in", [vcon()])
    collector.wait_for("process in")
    daemon.event("traces_taken", LONG_S, worker=1)
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"}, "127.0.0.1:4318"),
    ],
)
def test_what_the_environment_has_wrong_is_told_and_the_work_goes_on(
    environment: dict[str, str], reason: str, start: Start, client: redis.Redis
) -> None:
    daemon = start(**environment)
    [uuid] = push(client, "in", [vcon()])
    daemon.until(arrived(client, [uuid]))
    told = [*daemon.events("traces_off"), *daemon.events("traces_dropped")] or [
        daemon.event("traces_dropped", LONG_S)
    ]
    assert reason in told[0]["reason"]


def test_an_item_that_is_not_sampled_costs_no_span_and_keeps_its_ids(
    start: Start, collector: Collector, client: redis.Redis
) -> None:
    daemon = start(OTEL_TRACES_SAMPLER="always_off")
    [uuid] = push(client, "in", [vcon()])
    daemon.until(arrived(client, [uuid]))
    assert daemon.event("done", vcon=uuid)["trace_id"]
    assert daemon.stop() == 0
    assert collector.spans == []


def test_vcon_servers_routes_leave_their_span_for_the_worker(
    start: Start, collector: Collector, client: redis.Redis
) -> None:
    port = free_port()
    daemon = start("fork", CONSERVER_API_PORT=str(port))
    daemon.event("api_listens", LONG_S)
    document = vcon()
    answer = httpx.post(
        f"http://127.0.0.1:{port}/vcon",
        params={"ingress_lists": "in"},
        json=document,
        timeout=LONG_S,
    )
    assert answer.status_code == 201, answer.text
    daemon.until(arrived(client, [document["uuid"]]))
    [process] = collector.wait_for("process in")
    [request] = collector.wait_for("POST /vcon")
    assert process.links == [(request.trace, request.id)]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_api_alone_sends_spans_until_its_end(
    workers: int, collector: Collector, redis_url: str, tmp_path: Path
) -> None:
    port = free_port()
    given: dict[str, Any] = collector.environment
    daemon = Daemon(tmp_path / "alone", redis_url, trouble(redis_url), **given)
    words = ["api", "--port", str(port), "--workers", str(workers)]
    # Sent at the end, or not at all: the next time would be in a minute.
    environment = {**daemon._environment, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    process = subprocess.Popen(
        [sys.executable, "-m", "conserver", *words],
        env=environment,
        cwd=daemon.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with http_client(f"http://127.0.0.1:{port}", timeout=LONG_S) as web:
            eventually(lambda: _posted(web), LONG_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG_S) == 0
    finally:
        process.kill()
        process.wait()
    [send], [request] = collector.named("send in"), collector.named("POST /v1/vcons")
    assert send.parent == request.id
    assert request.attributes["http.response.status_code"] == 202
    assert request.resource["conserver.role"] == "api"


def _posted(web: httpx.Client) -> bool:
    try:
        return web.post("/v1/vcons", params={"list": "in"}, json=vcon()).status_code == 202
    except httpx.ConnectError:
        return False
