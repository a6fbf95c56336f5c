"""The middleware that hides secrets in all that the API sends: JSON, texts, events, WebSockets.

What a client owns leaves as it is: documents, transcripts, uploads, addresses for uploads, and the
uuids of an egress list. The route that answers with them says so by `as_is`, which has no effect if
the answer is an error.
Pages of the dashboard pass unchanged: their templates hide secrets (dashboard/templating.py).
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conserver.http.api.bodies import PARSE_INLINE_BYTES
from conserver.telemetry.redact import redact_json, redact_quoted

_EVENT = b"data: {"
_TEXTS = (b"text/plain", b"application/openmetrics-text")


def as_is(request: Request) -> None:
    """Let the answer to this request leave as it is, unless it is an error."""
    request.state.as_is = True


class Hiding:
    """The middleware. It wraps the routes and the handlers of errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket."""
        start: Message = {}  # of an answer that is sent as soon as its body is complete
        body, kind = b"", ""

        async def out(message: Message) -> None:
            nonlocal start, body, kind
            # `websocket.http.response...` answers a WebSocket that is refused.
            match message["type"].replace("websocket.http.", "http."):
                case "http.response.start":
                    kind = _kind(scope, message)
                    if kind in ("json", "text"):
                        start = message
                        return
                case "http.response.body" if kind == "events":
                    message = {**message, "body": _events(message.get("body", b""))}
                case "http.response.body" if start:
                    body += message.get("body", b"")
                    if message.get("more_body"):
                        return
                    hide = redact_json if kind == "json" else _text
                    is_long = len(body) > PARSE_INLINE_BYTES
                    shown = await asyncio.to_thread(hide, body) if is_long else hide(body)
                    if shown is not body:
                        MutableHeaders(raw=start["headers"])["content-length"] = str(len(shown))
                    await send(start)
                    message = {"type": message["type"], "body": shown}
                case "websocket.send" if message.get("text"):
                    message = {**message, "text": redact_json(message["text"].encode()).decode()}
                case "websocket.close" if message.get("reason"):
                    message = {**message, "reason": redact_quoted(message["reason"])}
            await send(message)

        await self._app(scope, receive, out)


def _kind(scope: Scope, start: Message) -> str:
    """json, events or text; "" for an answer that leaves as it is."""
    headers = dict(start.get("headers", ()))
    kind = headers.get(b"content-type", b"").partition(b";")[0]
    owned = start["status"] < 400 and scope.get("state", {}).get("as_is")
    if owned or kind == b"text/html" or b"content-encoding" in headers:
        return ""
    if kind.endswith(b"json"):
        return "json"
    if kind == b"text/event-stream":
        return "events"
    return "text" if kind in _TEXTS else ""


def _text(body: bytes) -> bytes:
    return redact_quoted(body.decode("utf-8", "replace")).encode()


def _events(body: bytes) -> bytes:
    """Server-sent events with JSON in them; those of the dashboard have HTML, which passes."""
    if _EVENT not in body:
        return body
    lines = [
        b"data: " + redact_json(line[6:]) if line.startswith(_EVENT) else line
        for line in body.split(b"\n")
    ]
    return b"\n".join(lines)
