"""The dashboard's Starlette application under /ui/: pages, static files, headers, errors.

The API's application mounts it. It uses the API's context.
"""

from __future__ import annotations

from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conserver.errors import OperationError
from conserver.http.api.auth import ANYBODY
from conserver.http.api.context import Context
from conserver.http.api.problems import ProblemError
from conserver.http.dashboard import (
    configuration,
    dead_letters,
    item,
    jobs,
    lists,
    login,
    media,
    operations,
    overview,
    pasts,
    schedules,
    search,
    submit,
    waiting,
    workers,
)
from conserver.http.dashboard.faults import status_and_text
from conserver.http.dashboard.live import Live
from conserver.http.dashboard.pages import Page, Visit, route_of
from conserver.http.dashboard.sessions import Sessions, new_cookie
from conserver.http.dashboard.snapshots import Snapshots
from conserver.http.dashboard.templating import FOLDER, Templates
from conserver.operations.hosts import Throughput
from conserver.operations.link_times import LinkTimes
from conserver.operations.tokens import Token
from conserver.outbound.uploads import StoreError
from conserver.telemetry import log

MODULES = (
    overview,
    lists,
    waiting,
    dead_letters,
    jobs,
    workers,
    operations,
    schedules,
    pasts,
    submit,
    search,
    item,
    media,
    configuration,
    login,
)
"""The modules with pages, in the order of the navigation."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With no-referrer, browsers would send forms with the origin `null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
NOT_KEPT = "private, no-store"
KEPT = "public, max-age=31536000, immutable"
RELAYING_MAX = 8
"""The most threads that wait for other servers' recordings at the same time."""
_NOBODY = Token("", ("read",))


class Dashboard:
    """The objects that all pages of one process share."""

    def __init__(self, context: Context, failures: Any) -> None:
        self.context = context
        self.failures = failures
        self.pages: list[Page] = [page for module in MODULES for page in module.pages.pages]
        self.nav = [page for page in self.pages if page.nav]
        self.sessions = Sessions(context)
        self.snapshots = Snapshots()
        self.rate = Throughput()
        self.windows_rate = Throughput("windows")
        self.link_times = LinkTimes()
        self.templates = Templates(self)
        self.live = Live(self)
        self.relaying = CapacityLimiter(RELAYING_MAX)

    async def enter(self, request: Request, role: str) -> Visit | Response:
        """The visit of a logged-in visitor, or a redirect: to the login; from the overview to the
        form that submits, for a visitor who may not read.

        Raises:
            ProblemError: 403: the visitor lacks the role.
        """
        cookie = self.sessions.cookie_of(request)
        made = self.context.is_open and not cookie
        if made:
            cookie = new_cookie()
        token, said = await self.sessions.load(cookie)
        if self.context.is_open:
            token = ANYBODY
        visit = Visit(request, self, token or _NOBODY, cookie, said, new_cookie=made)
        if role == "":
            return visit
        if token is None:
            return self._to_login(visit)
        request.state.token = token
        if not token.may(role):
            if not visit.here and token.may("submit"):  # A login leads to the overview.
                return RedirectResponse(visit.to_path("submit"), 303)
            raise ProblemError(
                403,
                f"you are `{token.name}`, which has not the role `{role}` that this needs",
                "role-missing",
            )
        return visit

    async def still_in(self, visit: Visit) -> bool:
        """Whether the visitor's session has not ended."""
        if self.context.is_open:
            return True
        try:
            token, _ = await self.sessions.load(visit.cookie)
        except RedisError:
            return True  # Unknown. The page reports that Redis is away.
        return token is not None

    def _to_login(self, visit: Visit) -> Response:
        if "live" in visit.query:
            return Response("the session has ended", 401)
        wanted = visit.address if visit.request.method == "GET" else ""
        return RedirectResponse(visit.to_path("login", next=wanted), 303)


def create(application: FastAPI, context: Context) -> ASGIApp:
    """The dashboard's application, which place.py mounts under /ui/ of the API's application."""
    dashboard = Dashboard(context, application.state.failures)
    pages = [route_of(page, dashboard) for page in dashboard.pages]
    inner = Starlette(
        routes=[*pages, Mount("/static", StaticFiles(directory=FOLDER / "static"))],
        middleware=[
            Middleware(_Headers),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5),
        ],
        exception_handlers={
            ProblemError: _failed,
            OperationError: _failed,
            RedisError: _failed,
            StoreError: _failed,
            HTTPException: _failed,
            Exception: _failed,  # api/frame.py logs it.
        },
    )
    inner.router.redirect_slashes = False  # Redirects would lack a proxy's prefix.
    inner.state.dashboard = dashboard
    inner.state.context = context
    application.state.dashboard = dashboard
    return inner


async def _failed(request: Request, error: Exception) -> Response:
    """Answers an error with a page."""
    dashboard: Dashboard = request.app.state.dashboard
    status, text = status_and_text(error)
    if isinstance(error, RedisError):
        log.get_logger().warning("redis_failed", error=str(error))
    token = getattr(request.state, "token", None) or (
        ANYBODY if dashboard.context.is_open else _NOBODY
    )
    visit = Visit(request, dashboard, token, dashboard.sessions.cookie_of(request) or new_cookie())
    again = status == 503 and request.method == "GET"
    values = {"status": status, "text": text, "again": again}
    html = dashboard.templates.page(visit, "error.html", values)
    return HTMLResponse(html, status, getattr(error, "headers", None))


class _Headers:
    """Middleware that sets the headers of every answer. Browsers may cache a static file if its
    address has its version.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_file = "/ui/static/" in scope["path"]
        kept = is_file and scope.get("query_string", b"").startswith(b"v=")

        async def out(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                given = {name for name, _ in headers}
                more = {**HEADERS, "cache-control": KEPT if kept else NOT_KEPT}
                if is_file and not kept:
                    more["cache-control"] = "no-cache"
                headers += [
                    (name.encode(), value.encode())
                    for name, value in more.items()
                    if name.encode() not in given
                ]
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, out)
