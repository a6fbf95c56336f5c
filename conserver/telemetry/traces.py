"""Turns traces on and off, and holds the object that makes this process's spans.

Traces are off unless the environment names a collector. While they are off, OpenTelemetry is not
imported, and code that could make a span costs one test of `TRACES.otel`:

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
    """otel: makes this process's spans; None if traces are off."""

    __slots__ = ("otel",)

    def __init__(self) -> None:
        self.otel: Otel | None = None


TRACES = Traces()
_NO_SPAN: nullcontext[None] = nullcontext()


def endpoint(environ: Mapping[str, str]) -> str:
    """The URL of the collector; "" if traces are off. The variables are those of OpenTelemetry's
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
    """A span that is open in this thread during a `with` block (see Otel.span); None if traces are
    off.
    """
    otel = TRACES.otel
    return _NO_SPAN if otel is None else otel.span(name, kind, attributes=attributes)


def traceparent() -> str:
    """The span that is open in this thread, as a W3C traceparent; "" if there is none."""
    otel = TRACES.otel
    return "" if otel is None else otel.carrier().get("traceparent", "")


def start(role: str, slot: int, host: str, environ: Mapping[str, str] = os.environ) -> None:
    """Turn this process's traces on if the environment names a collector. Never raises: an error is
    logged, and the process works without traces.

    Call it after the fork, because the SDK starts a thread.

    Args:
        role: worker, coordinator, api or transcriber.
        slot: the number of the process in its role.
        host: the id of the process's supervisor; "" without one.
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
    """Send the queued spans to the collector, for two seconds at most, and turn traces off."""
    otel, TRACES.otel = TRACES.otel, None
    if otel is not None:
        log.show_span(None)
        otel.shutdown()


def _off(reason: str) -> None:
    log.get_logger().warning(
        "traces_off", reason=redact_text(reason), what="the work goes on without spans"
    )
