"""A collector of traces: an OTLP receiver in this process, over real HTTP and protobuf.

with Collector() as collector:
    run with OTEL_EXPORTER_OTLP_ENDPOINT=collector.url
    span = collector.wait_for("process in")[0]
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.helpers import LONG_S, eventually
from tests.standins import Answer, Request, Standin

ENVIRONMENT = {
    "OTEL_BSP_SCHEDULE_DELAY": "100",  # ms, so that tests need not wait for five seconds
    "NO_PROXY": "127.0.0.1",
}


@dataclass(frozen=True)
class Received:
    """A span as it has arrived; ids in hexadecimal, parent "" for none."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: list[tuple[str, str]]
    """(trace id, span id)"""
    attributes: dict[str, Any]
    resource: dict[str, Any]
    error: str
    """The description of its status, if that is an error."""
    duration_s: float
    events: list[str] = field(default_factory=list)


class Collector:
    """Takes spans at /v1/traces, and answers as `answer` says where that is set."""

    def __init__(self) -> None:
        self.answer: Callable[[Request], Answer] | None = None
        self.spans: list[Received] = []
        self._known: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._server = Standin(self._take)

    @property
    def url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return self._server.url

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to send its spans here."""
        return {**ENVIRONMENT, "OTEL_EXPORTER_OTLP_ENDPOINT": self.url}

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)

    def named(self, name: str) -> list[Received]:
        """The spans of a name that have arrived, but for those of items that were released: on a
        busy machine this may happen to any item before it begins.
        """
        return [
            span
            for span in list(self.spans)
            if span.name == name and span.attributes.get("conserver.outcome") != "released"
        ]

    def wait_for(self, name: str, count: int = 1, seconds: float = LONG_S) -> list[Received]:
        """The same, once there are so many."""
        eventually(lambda: len(self.named(name)) >= count, seconds, message=f"a span {name}")
        return self.named(name)

    def trace(self, trace_id: str) -> list[Received]:
        """All spans of a trace that have arrived."""
        return [span for span in list(self.spans) if span.trace == trace_id]

    def _take(self, request: Request) -> Answer:
        if self.answer is not None:
            return self.answer(request)
        assert (request.method, request.path) == ("POST", "/v1/traces")
        assert request.headers["content-type"] == "application/x-protobuf"
        compressed = request.headers.get("content-encoding") == "gzip"
        body = gzip.decompress(request.body) if compressed else request.body
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                self._keep([_received(span, resource) for span in scope.spans])
        done = ExportTraceServiceResponse().SerializeToString()
        return Answer(200, done, {"content-type": "application/x-protobuf"})

    def _keep(self, spans: list[Received]) -> None:
        """Once each: an exporter to whom the answer comes too late sends them again."""
        with self._lock:
            self.spans += [one for one in spans if (one.trace, one.id) not in self._known]
            self._known.update((one.trace, one.id) for one in spans)


def _received(span: Any, resource: dict[str, Any]) -> Received:
    kinds = ("unspecified", "internal", "server", "client", "producer", "consumer")
    return Received(
        name=span.name,
        kind=kinds[span.kind],
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        attributes=_values(span.attributes),
        resource=resource,
        error=(span.status.message or "failed") if span.status.code == 2 else "",
        duration_s=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        events=[event.name for event in span.events],
    )


def _values(attributes: Any) -> dict[str, Any]:
    found = {}
    for one in attributes:
        kind = one.value.WhichOneof("value")
        found[one.key] = getattr(one.value, kind) if kind else None
    return found
