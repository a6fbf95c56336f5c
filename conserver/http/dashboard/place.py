"""Mounts the dashboard in the API's application under /ui/, and redirects browsers from `/`.

The pages and Jinja2 take 4 MB of memory. They are imported at the first request for a page, so an
API without visitors does not need this memory.
"""

from __future__ import annotations

import asyncio
from importlib import import_module

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from conserver.http.api.context import Context


def mount(application: FastAPI, context: Context) -> None:
    """Mount the dashboard in the API's application."""
    application.mount("/ui", _Dashboard(application, context))
    application.router.routes.insert(0, Route("/ui", _with_slash))
    application.router.routes.append(Route("/", _home))


class _Dashboard:
    """The ASGI application that creates the dashboard at the first request."""

    def __init__(self, application: FastAPI, context: Context) -> None:
        self._application, self._context = application, context
        self._app: ASGIApp | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._loading:
            if self._app is None:
                module = "conserver.http.dashboard.app"
                app = await asyncio.to_thread(import_module, module)
                self._app = app.create(self._application, self._context)
        await self._app(scope, receive, send)


async def _home(request: Request) -> Response:
    """Redirects a browser to the dashboard, keeping the path prefix."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return RedirectResponse("ui/", 307)


async def _with_slash(_: Request) -> Response:
    return RedirectResponse("ui/", 307)
