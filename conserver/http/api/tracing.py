"""The spans of the API: one per request, and one per submission.

A request with a `traceparent` (W3C Trace Context) belongs to its caller's trace. The job's hash
keeps the id of the submission's span, `send <list>`. The worker that claims the item makes its
spans children of that span, so one trace shows the request and the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conserver.telemetry.traces import TRACES

_QUIET = frozenset({"/livez", "/readyz", "/health", "/metrics"})


class Tracing:
    """Middleware around the whole application; installed only if traces are on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request inside a span."""
        otel = TRACES.otel
        if otel is None or scope["type"] != "http" or scope["path"] in _QUIET:
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        method = scope["method"]
        attributes = {"http.request.method": method, "url.path": scope["path"]}
        parent = otel.remote(headers)
        with otel.span(method, "server", parent=parent, attributes=attributes) as span:

            async def out(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_attribute("error.type", str(status))
                await send(message)

            try:
                await self._app(scope, receive, out)
            finally:
                route = getattr(scope.get("route"), "path", "")
                if route:
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)


@contextmanager
def producing(name: str, uuid: str, job: str) -> Iterator[list[tuple[str, str]]]:
    """A span for pushing an item onto a list. Yields the fields that the job's hash has to keep for
    the worker; an empty list if traces are off.
    """
    otel = TRACES.otel
    if otel is None:
        yield []
        return
    attributes = {
        "messaging.system": "redis",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": name,
        "messaging.message.conversation_id": uuid,
        "conserver.job": job,
    }
    with otel.span(f"send {name}", "producer", attributes=attributes) as span:
        yield list(otel.carrier(span).items())
