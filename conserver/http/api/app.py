"""The FastAPI application: its routes, error handlers and middleware.

/v1/...              Conserver's own routes: jobs, vCons, uploads, lists, dead letters, ...
/v1/audio, models    routes with OpenAI's interface
/health              whether a host takes items, and how many transcriptions run
/livez, /readyz      probes: the process answers; Redis answers too
/vcon, /vcons, ...   vcon-server's routes (vcon_server/)
/openapi.json        describes the routes, with examples
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from starlette.exceptions import HTTPException

import conserver
from conserver.config.validation import said
from conserver.errors import OperationError
from conserver.http.api import (
    audio,
    dead_letters,
    documents,
    egress,
    events,
    health,
    jobs,
    lists,
    metrics,
    models,
    openai_errors,
    openapi,
    operations,
    origins,
    probes,
    reloads,
    results,
    schedules,
    search,
    status,
    uploads,
    vcons,
    waiting,
    workers,
)
from conserver.http.api.auth import Failures, Rates
from conserver.http.api.context import Context
from conserver.http.api.frame import Frame
from conserver.http.api.hiding import Hiding
from conserver.http.api.meters import HttpMeters
from conserver.http.api.multipart import store_failed
from conserver.http.api.problems import ProblemError, is_openais, respond
from conserver.http.api.tracing import Tracing
from conserver.http.api.vcon_server import documents as vcon_server_documents
from conserver.http.api.vcon_server import queues as vcon_server_queues
from conserver.http.api.vcon_server import service as vcon_server_service
from conserver.operations import redis_faults
from conserver.outbound.uploads import StoreError
from conserver.telemetry import log
from conserver.telemetry.traces import TRACES


def create(context: Context) -> FastAPI:
    """The application with this context, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(context), name="uploads-sweep")
        try:
            yield
        finally:
            sweeping.cancel()
            await context.close()

    app = FastAPI(
        title="Conserver",
        version=conserver.__version__,
        description="Conversations in, results stored, none lost.",
        lifespan=lifespan,
        docs_url=None,  # Its page loads scripts from elsewhere.
        redoc_url=None,
        # FastAPI's own spans and logs contain query strings and bodies, so tracing.py makes the
        # spans. Versions of FastAPI without telemetry ignore this argument.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.context = context
    app.state.failures = Failures()
    app.state.rates = Rates(context.settings.api_rate_per_minute)
    # With include_router every request would take half as long again (FastAPI 0.165).
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    _handle_errors(app)
    app.add_middleware(Hiding)
    allowed = origins.named(context.settings.api_cors_origins)
    _allow_origins(app, allowed)
    app.add_middleware(
        Frame,
        prefix=context.settings.api_root_path,
        loopback_only=context.is_open and not context.settings.api_open,
        is_open=context.is_open,
        allowed=allowed,
        meters=HttpMeters(context.statuses[0].metrics) if context.statuses else None,
    )
    if TRACES.otel is not None:
        app.add_middleware(Tracing)
    return app


# The most frequently used routes come first: a request is matched against them in this order.
ROUTERS = (
    vcons.router,
    jobs.router,
    probes.router,
    health.router,
    audio.router,
    events.router,
    results.router,
    uploads.router,
    lists.router,
    documents.router,
    metrics.router,
    dead_letters.router,
    egress.router,
    operations.router,
    waiting.router,
    models.router,
    reloads.router,
    schedules.router,
    search.router,
    status.router,
    workers.router,
    vcon_server_queues.router,  # /vcon/count comes before /vcon/{uuid}.
    vcon_server_documents.router,
    vcon_server_service.router,
)


SWEEP_EVERY_S = 3600


async def _sweep(context: Context) -> None:
    """Remove expired uploads, now and every hour."""
    keep_s = context.settings.upload_expiry_s
    while keep_s:
        try:
            await context.transfer(context.uploads.sweep, keep_s)
        except OSError as error:
            log.get_logger().warning("uploads_not_swept", error=str(error))
        await asyncio.sleep(SWEEP_EVERY_S)


_STATUS_OF_KIND = {
    "invalid": 422,
    "not_found": 404,
    "conflict": 409,
    "denied": 503,
    "unavailable": 503,
    "failed": 500,
}
"""Kind of an OperationError -> HTTP status. "denied" is 503: Redis denied it to us, not to the
caller.
"""


def _allow_origins(app: FastAPI, allowed: frozenset[str]) -> None:
    if not allowed:
        return
    from fastapi.middleware.cors import CORSMiddleware

    app.add_middleware(
        CORSMiddleware,
        allow_origins=sorted(allowed),
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["Location", "Retry-After", "ETag", "X-Request-Id"],
    )


def _handle_errors(app: FastAPI) -> None:
    """Answer every error as a problem (RFC 9457), or in OpenAI's form on OpenAI's routes."""

    def answer(request: Request, status: int, detail: str, *rest: Any, **members: Any) -> Response:
        members["request_id"] = getattr(request.state, "request_id", "")
        return respond(request.scope, status, detail, *rest, **members)

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> Response:
        return answer(
            request, error.status, error.detail, error.kind, error.headers, **error.members
        )

    @app.exception_handler(StoreError)
    async def _store(request: Request, error: StoreError) -> Response:
        told = store_failed(error)
        return answer(request, told.status, told.detail, told.kind, told.headers)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        details = {404: "there is nothing at this path", 405: "this path has no such method"}
        detail = details.get(error.status_code, str(error.detail))
        if error.status_code == 404 and is_openais(request.scope):
            detail = openai_errors.NOTHING_THERE
        return answer(request, error.status_code, detail, "", error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"pointer": "/".join(str(part) for part in one["loc"]), "detail": said(one)}
            for one in error.errors()
        ]
        first = errors[0] if errors else {"pointer": "", "detail": "it cannot be read"}
        detail = f"{first['pointer']}: {first['detail']}"
        return answer(request, 422, detail, "invalid", errors=errors)

    @app.exception_handler(OperationError)
    async def _operation(request: Request, error: OperationError) -> Response:
        kind = error.kind.replace("_", "-")  # as in all other types of problems
        return answer(request, _STATUS_OF_KIND.get(error.kind, 500), str(error), kind)

    @app.exception_handler(OutOfMemoryError)
    async def _full(request: Request, _error: OutOfMemoryError) -> Response:
        detail = "Redis is full: nothing was taken; try again later"
        return answer(request, 503, detail, "redis-full", {"Retry-After": "30"})

    @app.exception_handler(ResponseError)
    async def _refused(request: Request, error: ResponseError) -> Response:
        log.get_logger().warning("redis_refused", error=str(error))
        return answer(request, 503, redis_faults.why(error), "redis-refused", {"Retry-After": "30"})

    @app.exception_handler(RedisError)
    async def _away(request: Request, error: RedisError) -> Response:
        log.get_logger().warning("redis_failed", error=str(error))
        detail = f"{redis_faults.why(error)}; try again"
        return answer(request, 503, detail, "redis-away", {"Retry-After": "5"})
