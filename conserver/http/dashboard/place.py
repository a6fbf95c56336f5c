"""The dashboard's place in the API's application: /ui/, and the way there from `/`.

The pages and Jinja2 take 4 MB, which an API that nobody looks at does not need: they are imported
when the first page is asked for.
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
    """Put the dashboard into the API's application."""
    application.mount("/ui", _Dashboard(application, context))
    application.router.routes.insert(0, Route("/ui", _with_slash))
    application.router.routes.append(Route("/", _home))


class _Dashboard:
    """The dashboard's application, from the first request to it."""

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
    """A browser is sent to the dashboard, below whatever prefix it asked for."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return RedirectResponse("ui/", 307)


async def _with_slash(_: Request) -> Response:
    return RedirectResponse("ui/", 307)
