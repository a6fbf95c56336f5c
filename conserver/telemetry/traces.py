"""Traces: whether this process makes spans, and the object that makes them.

Off unless the environment names a collector. While it is off, nothing of OpenTelemetry is imported,
and a place that could make a span costs one look at `TRACES.otel`:

    if (otel := TRACES.otel) is not None:
        ...

telemetry/otel.py makes the spans; docs/tracing.md lists them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from conserver.telemetry import log
from conserver.telemetry.redact import redact_text

if TYPE_CHECKING:
    from conserver.telemetry.otel import Otel, Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The variables that turn traces on, the most specific one first."""


class Traces:
    """otel: makes this process's spans; None where traces are off."""

    __slots__ = ("otel",)

    def __init__(self) -> None:
        self.otel: Otel | None = None


TRACES = Traces()
_NO_SPAN: nullcontext[None] = nullcontext()


def endpoint(environ: Mapping[str, str]) -> str:
    """Where spans are to be sent, "" for nowhere. The variables are those of OpenTelemetry's
    specification (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return ""
    return next((value for name in ENDPOINTS if (value := environ.get(name, "").strip())), "")


def span(
    name: str, kind: str = "internal", attributes: Mapping[str, Any] | None = None
) -> AbstractContextManager[Span | None]:
    """A span that is open in this thread for the length of a `with` block, as Otel.span makes it;
    None where traces are off.
    """
    otel = TRACES.otel
    return _NO_SPAN if otel is None else otel.span(name, kind, attributes=attributes)


def traceparent() -> str:
    """The span that is open in this thread, as a W3C traceparent; "" where there is none."""
    otel = TRACES.otel
    return "" if otel is None else otel.carrier().get("traceparent", "")


def start(role: str, slot: int, host: str, environ: Mapping[str, str] = os.environ) -> None:
    """Turn this process's traces on if the environment asks for them. Never raises: what stands in
    the way is logged, and the work goes on without them.

    To be called after the fork, because the SDK has a thread.

    Args:
        role: worker, coordinator, api or transcriber; slot: its number.
        host: the id of its supervisor, "" for a process without one.
    """
    where = endpoint(environ)
    if not where:
        return
    try:
        from conserver.telemetry import otel

        TRACES.otel = otel.Otel(otel.resource_of(role, slot, host, environ), where, environ)
    except ImportError as error:
        _off(f"the extra `otel` is not installed (pip install 'conserver[otel]'): {error}")
    except Exception as error:  # noqa: BLE001 - whatever the SDK does not like in the environment
        _off(f"{type(error).__name__}: {error}")
    else:
        log.show_span(TRACES.otel.ids)


def stop() -> None:
    """Send what waits to the collector, for two seconds at most, and make no more spans."""
    otel, TRACES.otel = TRACES.otel, None
    if otel is not None:
        log.show_span(None)
        otel.shutdown()


def _off(reason: str) -> None:
    log.get_logger().warning(
        "traces_off", reason=redact_text(reason), what="the work goes on without spans"
    )
