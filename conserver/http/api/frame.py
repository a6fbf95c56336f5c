"""The middleware around every request: it gives the request an id, logs it, and answers 500 if a
route raises.

It logs one line per request: `http_request` with method, route, status, duration and token name. It
never logs a query string, which may contain a presigned URL, and never a body. Probes (/livez,
/readyz, /health) and scrapes of /metrics are logged only if they fail. It is plain ASGI, because
Starlette's base class for middleware would slow down every request.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conserver.http.api.meters import HttpMeters
from conserver.http.api.origins import is_foreign
from conserver.http.api.problems import respond
from conserver.telemetry import log

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+){1,16}/?")
_QUIET = frozenset({"/livez", "/readyz", "/health", "/metrics", "/metrics/queues"})


class Frame:
    """The middleware. It wraps the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        prefix: str,
        loopback_only: bool,
        is_open: bool,
        allowed: frozenset[str],
        meters: HttpMeters | None = None,
    ) -> None:
        """
        Args:
            prefix: a path that may precede every route.
            loopback_only: refuse requests whose Host is not a name of loopback: a foreign web page
                can reach loopback by a DNS name of its own (DNS rebinding).
            is_open: no token is needed, so refuse requests that a browser sends for pages of other
                sites.
            allowed: the origins of other sites whose pages may send requests.
            meters: counts all requests except successful probes.
        """
        self._app = app
        self._prefix = prefix
        self._loopback_only = loopback_only
        self._is_open = is_open
        self._allowed = allowed
        self._meters = meters
        self._log = log.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        self._find_prefix(scope, headers.get(b"x-forwarded-prefix", b"").decode("latin-1"))
        seen: dict[str, Any] = {"status": 0}

        async def out(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                seen["status"] = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        began_s = time.perf_counter()
        try:
            refusal = self._refusal(scope, headers, request_id) if self._is_open else None
            await (refusal or self._app)(scope, receive, out)
        except Exception as error:  # noqa: BLE001 - a route raised what no handler knows
            self._log.exception(
                "http_request_failed", request_id=request_id, error=type(error).__name__
            )
            if not seen["status"] and scope["type"] == "http":
                answer = respond(
                    scope,
                    500,
                    "this is our fault; the log has it under this id",
                    request_id=request_id,
                )
                await answer(scope, receive, out)
        finally:
            self._tell(scope, seen["status"], request_id, time.perf_counter() - began_s)

    def _refusal(
        self, scope: Scope, headers: Mapping[bytes, bytes], request_id: str
    ) -> ASGIApp | None:
        """The error for a request that a server without tokens must not serve; None for others."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self._loopback_only and not _LOOPBACK.fullmatch(host):
            what = "without tokens this serves localhost only"
            return respond(scope, 421, what, request_id=request_id)
        if is_foreign(scope, headers, self._allowed, host=self._loopback_only):
            what = "without tokens no page of another site is served (CONSERVER_API_CORS_ORIGINS)"
            return respond(scope, 403, what, "foreign-origin", request_id=request_id)
        return None

    def _find_prefix(self, scope: Scope, forwarded: str) -> None:
        """Set root_path, so that a path with a prefix is routed as one without.

        A proxy may keep its prefix in the path, or strip it and name it in X-Forwarded-Prefix. A
        client that sends a false header only gets links that lead nowhere on this host.
        """
        path: str = scope["path"]
        named = forwarded.rstrip("/") if _PREFIX.fullmatch(forwarded) else ""
        for prefix in (named, self._prefix):
            if prefix and (path == prefix or path.startswith(prefix + "/")):
                scope["root_path"] = scope.get("root_path", "") + prefix
                return
        if named:
            scope["root_path"] = scope.get("root_path", "") + named
            scope["path"] = named + path
            scope["raw_path"] = named.encode() + (scope.get("raw_path") or quote(path).encode())

    def _tell(self, scope: Scope, status: int, request_id: str, took_s: float) -> None:
        path = scope["path"]
        if path.removeprefix(scope.get("root_path", "")) in _QUIET and status < 400:
            return
        route = getattr(scope.get("route"), "path", "")
        method = scope.get("method", "WEBSOCKET")
        if self._meters is not None:
            self._meters.request(method, route, status, took_s)
        state = scope.get("state", {})
        token = state.get("token")
        self._log.info(
            "http_request",
            method=method,
            path=path,
            route=route,
            status=status,
            duration_ms=round(took_s * 1000, 1),
            by=token.name if token else "",
            request_id=request_id,
        )
