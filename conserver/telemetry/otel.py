"""Otel: makes spans with OpenTelemetry's SDK, and sends them to a collector. Extra `otel`.

1. One Otel is made in each process, after the fork (traces.py): the SDK has a thread that sends.
2. Spans wait in a bounded queue (OTEL_BSP_MAX_QUEUE_SIZE). When it is full, new ones are dropped:
   a collector that is slow or dead never slows the work. Dropped spans are counted, and the log
   tells once that there are some, and once when the collector takes spans again.
3. Texts in spans are redacted like those in the log. Log lines that are written while a span is
   open in their thread carry its ids.

It is imported only where traces are on (traces.py).
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
"""How many spans wait for the collector at most, unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise."""

FLUSH_S = 2.0
"""How long the end of a process waits for its last spans to be taken."""

STATUS_CHARS = 500
_PROTOCOL = "http/protobuf"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_CAUGHT_UP_SPANS = 512  # so few wait that the collector keeps up again
_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_W3C = TraceContextTextMapPropagator()

Where: TypeAlias = Span | SpanContext


def resource_of(role: str, slot: int, host: str, environ: Mapping[str, str]) -> Resource:
    """What all spans of a process have in common: the service, and which process it is."""
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
    """What makes the spans of one process. All methods may be called by any thread."""

    def __init__(self, resource: Resource, endpoint: str, environ: Mapping[str, str]) -> None:
        """endpoint: for messages; the SDK reads its variables itself.

        Raises ValueError for a protocol that is not spoken here.
        """
        protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _PROTOCOL)
        if protocol.strip() != _PROTOCOL:
            raise ValueError(f"spans are sent as {_PROTOCOL}, and {protocol} is asked for")
        self._ids = _Ids()
        self._exporter = _ToldExporter(_Sender(), endpoint)
        self._queue = _BoundedQueue(self._exporter, _queue_spans(environ))
        # Its end is `shutdown`, which waits for two seconds and not for thirty.
        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        provider.add_span_processor(self._queue)
        # So that spans of libraries, such as those of Elasticsearch's client, join ours.
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
            parent: None for the span that is open in this thread, if any.
            links: spans of this or other traces that it belongs to.
            start_ns: when it began, by time.time_ns(); None for now.
            trace_of: what a trace of its own is about, if it has no parent: the same text always
                gives the same trace id.
        """
        context = None if parent is None else trace.set_span_in_context(_span(parent))
        made = [Link(_context(one)) for one in links]
        if trace_of:
            # The SDK's own way to a span that is not sampled takes three times as long.
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
        """A span that is open in this thread (or task) for the length of a `with` block."""
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
        """Make a span the open one of this thread for the length of a `with` block."""
        token = contexts.attach(trace.set_span_in_context(span))
        try:
            yield
        finally:
            contexts.detach(token)

    def carrier(self, span: Span | None = None) -> dict[str, str]:
        """The headers `traceparent` and `tracestate` of a span, or of the one that is open; nothing
        where none is (W3C Trace Context).
        """
        headers: dict[str, str] = {}
        _W3C.inject(headers, None if span is None else trace.set_span_in_context(span))
        return headers

    def note(self, span: Span | None = None) -> bytes:
        """An entry of vcon-server's context lists that names a span, or the one that is open; b""
        where there is none, or it is not sent.
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
        """The span that such an entry names; None for what is no such entry."""
        try:
            told = orjson.loads(note)
            return linked(told["trace_id"], told["span_id"], int(told.get("trace_flags", 0)))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def remote(self, headers: Mapping[str, str]) -> SpanContext | None:
        """The span that these headers name; None where they name none."""
        span = trace.get_current_span(_W3C.extract(headers, contexts.Context()))
        found = span.get_span_context()
        return found if found.is_valid else None

    def ids(self) -> dict[str, str]:
        """trace_id and span_id of the span that is open in this thread; {} where none is."""
        return ids_of(trace.get_current_span())

    @property
    def dropped(self) -> int:
        """How many spans were dropped since this process began."""
        return self._exporter.dropped

    def shutdown(self) -> None:
        """Send what waits, for at most FLUSH_S, and end the SDK's thread; nothing waits for a
        collector that is away.
        """
        end = threading.Thread(target=self._queue.shutdown, daemon=True)
        end.start()
        if not self._exporter.is_away:
            end.join(FLUSH_S)


def ids_of(span: Span) -> dict[str, str]:
    """trace_id and span_id of a span, as log lines have them."""
    found = span.get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}


def failed(span: Span, kind: str, text: str) -> None:
    """Mark a span as failed: `kind` is what the error is (of few different values), `text` says
    what happened.
    """
    span.set_attribute("error.type", kind)
    span.set_status(trace.StatusCode.ERROR, redact_text(text)[:STATUS_CHARS])


def linked(trace_id: str, span_id: str, flags: int) -> SpanContext | None:
    """A span of another process, by its ids in hexadecimal; None for ids that are none."""
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
    """Random ids, except that a trace about an item has the id that belongs to it.

    So all attempts of an item are in one trace, whatever process makes them, and a sampler that
    decides by the trace id decides the same for all of them.
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
    """The SDK's, with its settings and its repetitions; spans are encoded in less time."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans. Called by the SDK's thread."""
        client = getattr(self, "_client", None)
        if client is None or self._shutdown:  # Another version of the SDK encodes them itself.
            return super().export(spans)
        sent = client.export(otlp.encode(spans))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE


class _BoundedQueue(BatchSpanProcessor):
    """The SDK's queue, which drops the oldest span for a new one when it is full, without telling
    how many. This one drops the new one, and counts.
    """

    def __init__(self, exporter: _ToldExporter, spans: int) -> None:
        super().__init__(exporter, max_queue_size=spans, max_export_batch_size=min(512, spans))
        self._exporter = exporter
        self._spans = spans

    def on_end(self, span: ReadableSpan) -> None:
        """Called by the thread that has ended the span."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._exporter.queued(self._spans):
            super().on_end(span)


class _ToldExporter(SpanExporter):
    """Sends spans, and tells when the collector does not take them.

    dropped: how many were lost. is_away: whether the last were not taken.
    """

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self.dropped = 0
        self.is_away = False
        self._exporter = exporter
        self._endpoint = redact_text(endpoint)
        self._lock = threading.Lock()
        self._waiting = 0
        self._told = False  # that spans are dropped, and not yet that they are taken again
        self._told_of = 0  # `dropped` when it was told last
        self._log = log.get_logger()
        self._words = _LastWords()

    def queued(self, most: int) -> bool:
        """Count a span that is to wait. Returns whether there is room for it."""
        with self._lock:
            if self._waiting >= most:
                self.dropped += 1
                return False
            self._waiting += 1
            return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Called by the SDK's thread. Never raises."""
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
    """What the SDK's sender has logged last: its result says only that it failed. Nothing of it
    goes into our log, where it would be repeated with each batch.
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
