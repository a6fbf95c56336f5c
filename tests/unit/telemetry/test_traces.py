"""traces.py and otel.py: when there are traces, what a span says, and what becomes of too many."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping

import pytest
from structlog.testing import capture_logs

from conserver.telemetry import log, traces
from conserver.telemetry.otel import Otel, failed, ids_of, linked, resource_of
from conserver.telemetry.redact import hide_everywhere
from conserver.telemetry.traces import TRACES
from tests.collector import Collector
from tests.helpers import eventually, free_port
from tests.standins import Answer

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture(autouse=True)
def _no_sender_is_left() -> Iterator[None]:
    """In a process of ours the SDK's thread ends with the process; here it would go on sending,
    through whatever proxy a later test puts into the environment.
    """
    yield
    eventually(lambda: not [one for one in threading.enumerate() if "OtelBatch" in one.name])


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def otel(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Otel]:
    """A process's spans, sent to the collector."""
    for name, value in collector.environment.items():
        monkeypatch.setenv(name, value)
    made = Otel(resource_of("worker", 3, "host-1", os.environ), collector.url, os.environ)
    yield made
    made.shutdown()


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/v1/traces",
            },
            "http://t/v1/traces",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, ""),
    ],
)
def test_traces_are_on_where_there_is_a_collector(environ: Mapping[str, str], where: str) -> None:
    assert traces.endpoint(environ) == where


def test_what_cannot_be_is_told_and_leaves_them_off() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    with capture_logs() as logs:
        traces.start("worker", 1, "h", environ)
    assert TRACES.otel is None
    assert [line["event"] for line in logs] == ["traces_off"]
    assert "grpc" in logs[0]["reason"]
    with traces.span("nothing") as span:
        assert span is None
    assert traces.traceparent() == ""


def test_a_span_has_its_parent_its_links_and_who_made_it(otel: Otel, collector: Collector) -> None:
    parent = otel.remote({"traceparent": PARENT})
    assert parent is not None
    with otel.span("outer", "server", parent=parent) as outer:
        with otel.span("inner", links=[parent], attributes={"a": 1}):
            inner_ids = otel.ids()
            assert otel.carrier()["traceparent"] == f"00-{TRACE}-{inner_ids['span_id']}-01"
        assert otel.ids() == ids_of(outer)
    assert otel.ids() == {}
    [sent], [below] = collector.wait_for("outer"), collector.wait_for("inner")
    assert (sent.trace, sent.parent, sent.kind) == (TRACE, SPAN, "server")
    assert (below.trace, below.parent, below.links) == (TRACE, sent.id, [(TRACE, SPAN)])
    assert below.attributes == {"a": 1}
    assert sent.resource["service.instance.id"] == "host-1/worker-3"
    assert sent.resource["service.name"] == "conserver"


def test_the_name_of_the_service_is_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "calls")
    assert resource_of("api", 1, "", os.environ).attributes["service.name"] == "calls"
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment=prod")
    found = resource_of("api", 1, "", os.environ).attributes
    assert (found["service.name"], found["deployment.environment"]) == ("other", "prod")


def test_a_trace_about_the_same_has_the_same_id_everywhere(otel: Otel) -> None:
    first, again = (otel.start("process", trace_of="consumer.17.1") for _ in range(2))
    other = otel.start("process", trace_of="consumer.17.2")
    plain = otel.start("plain")
    ids = [ids_of(span)["trace_id"] for span in (first, again, other, plain)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert ids_of(first)["span_id"] != ids_of(again)["span_id"]
    # A producer's trace goes before.
    parent = otel.remote({"traceparent": PARENT})
    child = otel.start("process", parent=parent, trace_of="consumer.17.1")
    assert ids_of(child)["trace_id"] == TRACE


def test_errors_are_redacted(otel: Otel, collector: Collector) -> None:
    hide_everywhere(["hunter2-and-more"])
    with pytest.raises(ValueError, match="hunter2"), otel.span("fails"):
        raise ValueError("the password hunter2-and-more is wrong")
    span = otel.start("told")
    failed(span, "rejected", "token hunter2-and-more")
    span.end()
    for name in ("fails", "told"):
        [sent] = collector.wait_for(name)
        assert sent.error
        assert "hunter2" not in sent.error
        assert sent.events == [], "no traceback, which would hold values"
    assert collector.named("fails")[0].attributes["error.type"] == "ValueError"


@pytest.mark.parametrize(
    ("trace_id", "span_id"), [("0" * 32, SPAN), (TRACE, "0" * 16), ("xyz", SPAN), (TRACE, None)]
)
def test_ids_that_are_none_make_no_link(trace_id: str, span_id: str) -> None:
    assert linked(trace_id, span_id, 1) is None
    assert linked(TRACE, SPAN, 1) is not None


def test_log_lines_have_the_ids_of_the_open_span(otel: Otel) -> None:
    read, write = os.pipe()
    renderer = log.Renderer({"role": "test"}, log.LineWriter(write), as_text=False)
    log.show_span(otel.ids)
    try:
        with otel.span("open") as span:
            renderer.emit("info", {"event": "inside"})
            ids = ids_of(span)
        renderer.emit("info", {"event": "outside"})
    finally:
        log.show_span(None)
        os.close(write)
    with os.fdopen(read) as lines:
        inside, outside = (json.loads(line) for line in lines)
    assert inside.items() >= ids.items()
    assert not outside.keys() & {"trace_id", "span_id"}


def test_spans_beyond_the_queue_are_dropped_counted_and_told_of_once(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        **collector.environment,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_MAX_QUEUE_SIZE": "10",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with capture_logs() as logs:
        otel = Otel(resource_of("worker", 1, "h", os.environ), "http://u:pw@nobody", os.environ)
        for _ in range(3):
            for _ in range(40):
                otel.start("lost").end()
            before = otel.dropped
            eventually(lambda: otel.dropped > before or otel.dropped >= 100)  # noqa: B023
        eventually(lambda: otel.dropped == 120)
        otel.shutdown()
    told = [line for line in logs if line["event"] == "traces_dropped"]
    assert len(told) == 1
    assert told[0]["reason"]
    assert "pw" not in told[0]["endpoint"]


def test_nothing_is_logged_after_a_shutdown(otel: Otel, collector: Collector) -> None:
    """The SDK's thread may still wait for a collector then, and fail later."""
    gate = threading.Event()

    def wait(_request: object) -> Answer:
        gate.wait(60)
        return Answer(400)

    collector.answer = wait
    with capture_logs() as logs:
        otel.start("slow").end()
        otel.shutdown()
        gate.set()
        eventually(lambda: otel.dropped == 1)
    assert logs == []


def test_spans_are_told_to_be_taken_again(otel: Otel, collector: Collector) -> None:
    collector.answer = lambda _request: Answer(400)
    with capture_logs() as logs:
        otel.start("lost").end()
        eventually(lambda: otel.dropped == 1)
        collector.answer = None
        otel.start("taken").end()
        collector.wait_for("taken")
        eventually(lambda: len(logs) == 2)
    assert [line["event"] for line in logs] == ["traces_dropped", "traces_taken"]
    assert re.search("400", logs[0]["reason"])


def test_where_traces_are_off_nothing_of_ours_loads_opentelemetry() -> None:
    """It is no dependency: every process of ours starts where it is not installed."""
    roles = "worker.loop coordinator.coordinator supervisor.supervisor"
    roles += " media.speech.transcriber http.server"
    program = (
        "import importlib, sys; sys.modules['opentelemetry'] = None;"
        f"[importlib.import_module('conserver.' + name) for name in {roles.split()}];"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
