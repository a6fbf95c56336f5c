"""Makes spans with OpenTelemetry's SDK, and sends them to a collector. It needs the extra `otel`.

1. Each process makes one Otel, after the fork (traces.py), because the SDK starts a thread.
2. Finished spans wait in a bounded queue (OTEL_BSP_MAX_QUEUE_SIZE). When the queue is full, new
   spans are dropped, so that a slow or dead collector never slows the work. Dropped spans are
   counted. The log says once that spans are dropped, and once that the collector takes spans again.
3. Texts in spans are redacted like those in the log. A log line that is written while a span is
   open in its thread has the span's ids.

This module is imported only if traces are on (traces.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import orjson
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import conserver
from conserver.telemetry import log, otlp
from conserver.telemetry.redact import redact_text

__all__ = ["Otel", "Span", "SpanContext", "failed", "ids_of", "linked", "resource_of"]

QUEUE_SPANS = 8192
"""The default size of the queue, which OTEL_BSP_MAX_QUEUE_SIZE overrides."""

FLUSH_S = 2.0
"""How long an ending process waits until the collector has taken its last spans."""

STATUS_CHARS = 500
_PROTOCOL = "http/protobuf"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_CAUGHT_UP_SPANS = 512  # If fewer spans wait, the collector keeps up again.
_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_W3C = TraceContextTextMapPropagator()

Where: TypeAlias = Span | SpanContext


def resource_of(role: str, slot: int, host: str, environ: Mapping[str, str]) -> Resource:
    """The resource of all spans of a process: the service, and which process it is."""
    attributes: dict[str, str | int] = {
        "service.version": conserver.__version__,
        "service.instance.id": f"{host or os.getpid()}/{role}-{slot}",
        "process.pid": os.getpid(),
        "conserver.role": role,
        "conserver.slot": slot,
    }
    named = environ.get("OTEL_SERVICE_NAME", "").strip()
    if not named and "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        attributes["service.name"] = "conserver"
    return Resource.create(attributes)


class Otel:
    """Makes the spans of one process. Any thread may call any method."""

    def __init__(self, resource: Resource, endpoint: str, environ: Mapping[str, str]) -> None:
        """endpoint: the URL for messages; the SDK reads its variables itself.

        Raises ValueError if the environment asks for a protocol that is not supported.
        """
        protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _PROTOCOL)
        if protocol.strip() != _PROTOCOL:
            raise ValueError(f"spans are sent as {_PROTOCOL}, and {protocol} is asked for")
        self._ids = _Ids()
        self._exporter = _ToldExporter(_Sender(), endpoint)
        self._queue = _BoundedQueue(self._exporter, _queue_spans(environ))
        # shutdown_on_exit would wait for thirty seconds; `shutdown` waits for two.
        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        provider.add_span_processor(self._queue)
        # Libraries, such as Elasticsearch's client, then make their spans with this provider.
        trace.set_tracer_provider(provider)
        self._sampler = provider.sampler
        self._tracer = provider.get_tracer("conserver", conserver.__version__)

    def start(
        self,
        name: str,
        kind: str = "internal",
        *,
        parent: Where | None = None,
        links: Sequence[Where] = (),
        attributes: Mapping[str, Any] | None = None,
        start_ns: int | None = None,
        trace_of: str = "",
    ) -> Span:
        """A span that the caller ends.

        Args:
            kind: internal, server, client, producer or consumer.
            parent: None: the span that is open in this thread, if there is one.
            links: related spans of this or other traces.
            start_ns: when the span began, by time.time_ns(); None: now.
            trace_of: a text from which the trace id is made if the span has no parent. The same
                text always gives the same trace id.
        """
        context = None if parent is None else trace.set_span_in_context(_span(parent))
        made = [Link(_context(one)) for one in links]
        if trace_of:
            # Ask the sampler here, because the SDK takes three times as long for an unsampled span.
            trace_id = _trace_id(trace_of) if parent is None else _context(parent).trace_id
            found = self._sampler.should_sample(
                context, trace_id, name, _KINDS[kind], attributes, made
            )
            if found.decision is not Decision.RECORD_AND_SAMPLE:
                ids = (trace_id, self._ids.generate_span_id(), False)
                return NonRecordingSpan(SpanContext(*ids, trace_state=found.trace_state))
            if parent is None:
                self._ids.ask(trace_id)
        return self._tracer.start_span(name, context, _KINDS[kind], attributes, made, start_ns)

    @contextlib.contextmanager
    def span(
        self,
        name: str,
        kind: str = "internal",
        *,
        parent: Where | None = None,
        links: Sequence[Where] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> Iterator[Span]:
        """A span that is open in this thread (or asyncio task) during a `with` block."""
        span = self.start(name, kind, parent=parent, links=links, attributes=attributes)
        token = contexts.attach(trace.set_span_in_context(span))
        try:
            yield span
        except BaseException as error:
            failed(span, type(error).__name__, str(error))
            raise
        finally:
            contexts.detach(token)
            span.end()

    @contextlib.contextmanager
    def inside(self, span: Span) -> Iterator[None]:
        """Make `span` the open span of this thread during a `with` block."""
        token = contexts.attach(trace.set_span_in_context(span))
        try:
            yield
        finally:
            contexts.detach(token)

    def carrier(self, span: Span | None = None) -> dict[str, str]:
        """The headers `traceparent` and `tracestate` (W3C Trace Context) of a span, by default of
        the open one; {} if none is open.
        """
        headers: dict[str, str] = {}
        _W3C.inject(headers, None if span is None else trace.set_span_in_context(span))
        return headers

    def note(self, span: Span | None = None) -> bytes:
        """An entry of vcon-server's context lists that names a span, by default the open one; b""
        if none is open, or if the span is not sampled.
        """
        found = (trace.get_current_span() if span is None else span).get_span_context()
        if not found.is_valid or not found.trace_flags.sampled:
            return b""
        return orjson.dumps(
            {
                "trace_id": f"{found.trace_id:032x}",
                "span_id": f"{found.span_id:016x}",
                "trace_flags": int(found.trace_flags),
                "is_sampled": True,
            }
        )

    def noted(self, note: bytes) -> SpanContext | None:
        """The span that an entry of a context list names; None if the entry is invalid."""
        try:
            told = orjson.loads(note)
            return linked(told["trace_id"], told["span_id"], int(told.get("trace_flags", 0)))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def remote(self, headers: Mapping[str, str]) -> SpanContext | None:
        """The span that the header `traceparent` names; None if there is no valid one."""
        span = trace.get_current_span(_W3C.extract(headers, contexts.Context()))
        found = span.get_span_context()
        return found if found.is_valid else None

    def ids(self) -> dict[str, str]:
        """trace_id and span_id of the span that is open in this thread; {} if none is."""
        return ids_of(trace.get_current_span())

    @property
    def dropped(self) -> int:
        """How many spans were dropped since this process began."""
        return self._exporter.dropped

    def shutdown(self) -> None:
        """Send the queued spans, for at most FLUSH_S, and end the SDK's thread. If the collector is
        away, it does not wait. Nothing is logged afterwards, even if the thread still runs.
        """
        end = threading.Thread(target=self._queue.shutdown, daemon=True)
        end.start()
        if not self._exporter.is_away:
            end.join(FLUSH_S)
        self._exporter.is_quiet = True


def ids_of(span: Span) -> dict[str, str]:
    """trace_id and span_id of a span, as fields of log lines; {} if the span is invalid."""
    found = span.get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}


def failed(span: Span, kind: str, text: str) -> None:
    """Mark a span as failed. `kind` is the type of the error, `text` its message."""
    span.set_attribute("error.type", kind)
    span.set_status(trace.StatusCode.ERROR, redact_text(text)[:STATUS_CHARS])


def linked(trace_id: str, span_id: str, flags: int) -> SpanContext | None:
    """A span of another process, by its ids in hexadecimal; None if the ids are invalid."""
    try:
        found = SpanContext(int(trace_id, 16), int(span_id, 16), True, trace.TraceFlags(flags))
    except (TypeError, ValueError):
        return None
    return found if found.is_valid else None


def _span(where: Where) -> Span:
    return NonRecordingSpan(where) if isinstance(where, SpanContext) else where


def _context(where: Where) -> SpanContext:
    return where if isinstance(where, SpanContext) else where.get_span_context()


def _trace_id(about: str) -> int:
    return int.from_bytes(hashlib.sha256(about.encode()).digest()[:16]) or 1


def _queue_spans(environ: Mapping[str, str]) -> int:
    text = environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "").strip()
    return int(text) if text.isdigit() and int(text) else QUEUE_SPANS


class _Ids(RandomIdGenerator):
    """Random ids, except that the id of a trace about an item is made from the item.

    So all attempts at an item are in one trace, whichever processes make them, and a sampler that
    decides by the trace id decides the same for all attempts.
    """

    def __init__(self) -> None:
        self._asked = threading.local()

    def ask(self, trace_id: int) -> None:
        """Give this id to the next trace that this thread begins."""
        self._asked.id = trace_id

    def generate_trace_id(self) -> int:
        asked, self._asked.id = getattr(self._asked, "id", 0), 0
        return asked or super().generate_trace_id()


class _Sender(OTLPSpanExporter):
    """The SDK's exporter with its settings and retries. Only the encoding (otlp.py) is faster."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans. The SDK's thread calls it."""
        client = getattr(self, "_client", None)
        if client is None or self._shutdown:  # Another version of the SDK encodes them itself.
            return super().export(spans)
        sent = client.export(otlp.encode(spans))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE


class _BoundedQueue(BatchSpanProcessor):
    """The SDK's queue, except that it drops the new span when it is full, and counts dropped spans.
    The SDK's own queue drops the oldest span and does not count.
    """

    def __init__(self, exporter: _ToldExporter, spans: int) -> None:
        super().__init__(exporter, max_queue_size=spans, max_export_batch_size=min(512, spans))
        self._exporter = exporter
        self._spans = spans

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span. The thread that has ended the span calls it."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._exporter.queued(self._spans):
            super().on_end(span)


class _ToldExporter(SpanExporter):
    """Sends spans, and logs when the collector does not take them.

    Attributes:
        dropped: how many spans were lost.
        is_away: whether the collector did not take the last batch.
        is_quiet: whether nothing is logged any more.
    """

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self.dropped = 0
        self.is_away = self.is_quiet = False
        self._exporter = exporter
        self._endpoint = redact_text(endpoint)
        self._lock = threading.Lock()
        self._waiting = 0
        self._told = False  # Whether the last log line was traces_dropped.
        self._told_of = 0  # The value of `dropped` at the last log line.
        self._log = log.get_logger()
        self._words = _LastWords()

    def queued(self, most: int) -> bool:
        """Count a span that enters the queue. Returns False if the queue is full."""
        with self._lock:
            if self._waiting >= most:
                self.dropped += 1
                return False
            self._waiting += 1
            return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans. The SDK's thread calls it. Never raises."""
        before = self.dropped
        try:
            result = self._exporter.export(spans)
            reason = self._words.last
        except Exception as error:  # noqa: BLE001 - such as for an endpoint that is no URL
            result, reason = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        taken = result is SpanExportResult.SUCCESS
        with self._lock:
            self._waiting -= len(spans)
            self.dropped += 0 if taken else len(spans)
        self.is_away = not taken
        self._tell(reason if not taken else "it takes them more slowly than they come", before)
        return result

    def _tell(self, reason: str, before: int) -> None:
        if self.is_quiet:
            return
        if not self._told and self.dropped != self._told_of:
            self._told, self._told_of = True, self.dropped
            self._log.warning(
                "traces_dropped",
                endpoint=self._endpoint,
                reason=redact_text(reason)[:STATUS_CHARS],
                dropped=self.dropped,
                what="the work goes on; spans are lost until the collector takes them",
            )
            return
        keeps_up = self.dropped == before and self._waiting < _CAUGHT_UP_SPANS
        if self._told and not self.is_away and keeps_up:
            self._told, self._told_of = False, self.dropped
            self._log.warning("traces_taken", endpoint=self._endpoint, dropped=self.dropped)

    def shutdown(self) -> None:
        """End the client."""
        self._exporter.shutdown()


class _LastWords(logging.Handler):
    """Keeps the last log message of the SDK's exporter, because its result says only that it
    failed. The messages do not go to Conserver's log, where each batch would repeat them.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        for name in ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal"):
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.handlers[:] = [self]

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()
