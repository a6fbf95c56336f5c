"""Encodes finished spans as OTLP, with the same bytes as the SDK, in a fifth of its time.

The SDK makes an object for each field of each attribute before it writes any byte. Nearly all spans
of Conserver contain only texts and numbers; this module writes their bytes directly. The SDK
encodes the other spans (with events, sequences or a trace state).

https://github.com/open-telemetry/opentelemetry-proto, trace/v1/trace.proto and common/v1;
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

_BYTES = [bytes((number,)) for number in range(128)]
_TIMES = struct.Struct("<BQBQ")  # start_time_unix_nano, end_time_unix_nano
_FLAGS = struct.Struct("<I")
_DOUBLE = struct.Struct("<d")
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200
_U64 = (1 << 64) - 1
_SHORT = 124
"""If key and text together are shorter, all lengths in the attribute's encoding take one byte."""


class _Unusual(Exception):
    """The span has parts that only the SDK can encode."""


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """An ExportTraceServiceRequest."""
    # Keys are ids of resources, because hashing a resource takes longer than encoding a span.
    resources = {id(span.resource): span.resource for span in spans}
    groups: dict[int, dict[InstrumentationScope | None, list[bytes]]] = defaultdict(dict)
    for span in spans:
        scopes = groups[id(span.resource)]
        scopes.setdefault(span.instrumentation_scope, []).append(_field(2, _span(span)))
    try:
        return b"".join(_field(1, _head(resources[one], scopes)) for one, scopes in groups.items())
    except _Unusual:  # A resource or a scope has attributes that only the SDK can encode.
        whole: bytes = encode_spans(spans).SerializePartialToString()
        return whole


def _head(resource: Resource, scopes: Mapping[InstrumentationScope | None, list[bytes]]) -> bytes:
    """ResourceSpans."""
    found = [_field(1, _attributes(1, resource.attributes))]
    for scope, spans in scopes.items():
        named = b"" if scope is None else _scope(scope)
        url = "" if scope is None else scope.schema_url or ""
        found.append(_field(2, b"".join((_field(1, named), *spans, _text(3, url)))))
    found.append(_text(3, resource.schema_url))
    return b"".join(found)


def _scope(scope: InstrumentationScope) -> bytes:
    attributes = _attributes(3, scope.attributes or {})
    return _text(1, scope.name) + _text(2, scope.version or "") + attributes


def _span(span: ReadableSpan) -> bytes:
    try:
        return _written(span)
    except _Unusual:
        [of_resource] = encode_spans([span]).resource_spans
        whole: bytes = of_resource.scope_spans[0].spans[0].SerializePartialToString()
        return whole


def _written(span: ReadableSpan) -> bytes:
    """A span that has only texts and numbers. Raises _Unusual for any other span."""
    context, parent = span.context, span.parent
    unusual = context is None or context.trace_state or span.events
    if unusual or span.dropped_attributes or span.dropped_events or span.dropped_links:
        raise _Unusual
    assert context is not None
    attributes = span.attributes or {}
    if isinstance(attributes, MappingProxyType):
        attributes = attributes.copy()  # A plain dict, because the original locks for each value.
    status = span.status
    said = _text(2, status.description or "")
    code = status.status_code.value
    return b"".join(
        (
            _ids(context),
            b"" if parent is None else b"\x22\x08" + parent.span_id.to_bytes(8),
            _text(5, span.name),
            b"\x30" + _BYTES[span.kind.value + 1],
            _TIMES.pack(0x39, span.start_time or 0, 0x41, span.end_time or 0),
            _attributes(9, attributes),
            *[_field(13, _link(one.context, one.attributes)) for one in span.links],
            _field(15, said + b"\x18" + _BYTES[code] if code else said),
            b"\x85\x01" + _flags(parent),
        )
    )


def _ids(context: SpanContext) -> bytes:
    """trace_id and span_id, the first two fields of a span and of a link."""
    return b"\x0a\x10%b\x12\x08%b" % (context.trace_id.to_bytes(16), context.span_id.to_bytes(8))


def _link(context: SpanContext, attributes: Mapping[str, Any] | None) -> bytes:
    if attributes:
        raise _Unusual
    return _ids(context) + b"\x35" + _flags(context)


def _flags(context: SpanContext | None) -> bytes:
    """The flags field: whether a parent or a linked span belongs to another process."""
    is_remote = context is not None and context.is_remote
    return _FLAGS.pack(_HAS_IS_REMOTE | (_IS_REMOTE if is_remote else 0))


def _attributes(number: int, attributes: Mapping[str, Any]) -> bytes:
    """A repeated KeyValue."""
    found = []
    for name, value in attributes.items():
        key = _key(name)
        content = value.encode("utf-8", "replace") if isinstance(value, str) else None
        if content is not None and len(content) + len(key) < _SHORT:
            size = len(content)  # All lengths have one byte, so one format string is enough.
            found.append(
                b"%c%c%b\x12%c\x0a%c%b"
                % (number << 3 | 2, len(key) + size + 4, key, size + 2, size, content)
            )
        else:
            any_value = _value(value) if content is None else _field(1, content)
            found.append(_field(number, key + _field(2, any_value)))
    return b"".join(found)


@lru_cache(1024)
def _key(name: str) -> bytes:
    return _text(1, name)


def _value(value: object) -> bytes:
    """An AnyValue that is not a string. Raises _Unusual for sequences and bytes."""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value & _U64)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE.pack(value)
    raise _Unusual


def _text(number: int, text: str) -> bytes:
    """A string field; b"" for an empty string, which protobuf leaves out."""
    return _field(number, text.encode("utf-8", "replace")) if text else b""


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field. number: the field's number, below 16."""
    return b"%b%b%b" % (_BYTES[number << 3 | 2], _varint(len(content)), content)


def _varint(number: int) -> bytes:
    """A varint: seven bits in each byte, the lowest first."""
    if number < 0x80:
        return _BYTES[number]
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
