"""otlp.py writes what OpenTelemetry's own encoder writes, byte for byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from conserver.telemetry import otlp

TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)
VALUES = TEXTS | st.booleans() | st.floats() | st.integers(-(1 << 63), (1 << 63) - 1)
PLAIN: dict[str, Any] = {"messaging.system": "redis", "size": 4096, "ratio": 0.5, "ok": True}
RESOURCE = Resource({"service.name": "conserver", "process.pid": 7})


def provider(**options: Any) -> TracerProvider:
    return TracerProvider(**{"resource": RESOURCE, "shutdown_on_exit": False, **options})


def remote(state: str = "") -> SpanContext:
    """A span of another process."""
    told = TraceState.from_header([state]) if state else None
    return SpanContext(0x4BF92F35 << 90, 0xF067AA0B, True, TraceFlags(1), told)


def made(
    maker: TracerProvider | None = None,
    name: str = "process calls",
    parent: SpanContext | None = None,
    **options: Any,
) -> Any:
    """A span that has not ended."""
    context = set_span_in_context(NonRecordingSpan(parent)) if parent else None
    tracer = (maker or provider()).get_tracer("conserver", "0.1.0")
    return tracer.start_span(name, context, **options)


def same(*spans: Any) -> None:
    for span in spans:
        span.end()
    found: list[ReadableSpan] = list(spans)
    assert otlp.encode(found) == encode_spans(found).SerializePartialToString()


@given(st.dictionaries(TEXTS.filter(bool), VALUES, max_size=8), TEXTS)
def test_texts_and_numbers(attributes: dict[str, Any], name: str) -> None:
    same(made(name=name, attributes=attributes))


@pytest.mark.parametrize("kind", SpanKind)
def test_kinds(kind: SpanKind) -> None:
    same(made(kind=kind, attributes=PLAIN))


@pytest.mark.parametrize("size", [0, 1, 95, 110, 123, 124, 127, 128, 16_383, 16_384])
def test_lengths_of_one_byte_and_of_more(size: int) -> None:
    same(made(attributes={"key": "x" * size, "k" * max(size, 1): size}))


def test_parents_and_links() -> None:
    maker = provider()
    first = made(maker)
    inner = made(maker, parent=first.get_span_context(), links=[Link(remote())])
    links = [Link(remote()), Link(first.get_span_context())]
    outer = made(maker, parent=remote(), links=links, attributes=PLAIN)
    same(first, inner, outer)


def test_failures() -> None:
    said, silent, fine = made(), made(), made()
    said.set_status(Status(StatusCode.ERROR, "the receiver is away"))
    silent.set_status(Status(StatusCode.ERROR))
    fine.set_status(Status(StatusCode.OK))
    same(said, silent, fine)


def test_what_is_unusual_is_written_by_the_sdk() -> None:
    with_event = made(attributes=PLAIN)
    with_event.add_event("retry", {"after_s": 3})
    with_event.record_exception(ValueError("no"))
    same(
        with_event,
        made(attributes={"list": ["a", "b"], "numbers": [1, 2]}),
        made(links=[Link(remote(), {"why": "former"})]),
        made(parent=remote("vendor=1")),
        made(provider(span_limits=SpanLimits(max_span_attributes=2)), attributes=PLAIN),
        made(attributes=PLAIN),
    )


def test_several_resources_and_scopes() -> None:
    one, other = provider(), provider(resource=Resource({"a": [1]}, "https://schemas.example/2"))
    library = other.get_tracer("elastic", None, "https://schemas.example/1", {"a": 1})
    same(made(one), made(other), library.start_span("search"), made(one, attributes=PLAIN))
    assert otlp.encode([]) == b""
