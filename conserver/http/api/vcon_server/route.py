"""The form of vcon-server's answers: errors in FastAPI's form, and headers with the version.

    {"detail": "a text"}                                 most errors
    {"detail": [{"type", "loc", "msg", "input"}, ...]}   422: a parameter or the body is invalid
    500 with the text of FAILURES                        Redis or a storage has failed

Only routes under /v1 answer with problems of RFC 9457 (problems.py).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from redis.exceptions import OutOfMemoryError, RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import conserver
from conserver.config.settings import Settings
from conserver.errors import ConfigError, OperationError
from conserver.http.api.context import context_of
from conserver.http.api.problems import ProblemError
from conserver.telemetry import log

FAILURES = {
    "GET /stats/queue": "Failed to get queue depth",
    "POST /vcon": "Failed to store vCon",
    "GET /vcons/search": "An error occurred during the search",
    "POST /vcon/ingress": "Failed to add to ingress list",
    "GET /vcon/egress": "Failed to pop from egress list",
    "GET /vcon/count": "Failed to count egress list",
    "POST /vcon/external-ingress": "Failed to store vCon",
    "GET /config": "Failed to read configuration",
    "POST /config": "Failed to update configuration",
    "GET /dlq": "Failed to read DLQ",
    "POST /dlq/reprocess": "Failed to reprocess DLQ",
}
"""Route -> the text of its 500, if Redis or a storage has failed. Other routes have FAILURE."""

FAILURE = "Internal Server Error"
_RETRY_S = {"Retry-After": "10"}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class CompatRoute(APIRoute):
    """A route that answers errors in vcon-server's form."""

    def get_route_handler(self) -> Handler:
        """The route's handler, wrapped: its errors get vcon-server's form."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await handler(request)
            except (
                ConfigError,
                HTTPException,
                OperationError,
                ProblemError,
                RedisError,
                RequestValidationError,
            ) as error:
                response = _answer(request, self.path_format, error)
            response.headers.update(_version_headers(context_of(request).settings))
            return response

        return handle


def router() -> APIRouter:
    """A router for routes of vcon-server."""
    return APIRouter(route_class=CompatRoute, include_in_schema=False)


def version_of(settings: Settings) -> dict[str, str]:
    """The answer of GET /version."""
    return {
        "version": settings.vcon_server_version or conserver.__version__,
        "git_commit": settings.vcon_server_git_commit,
        "build_time": settings.vcon_server_build_time,
    }


def refusal(status: int, detail: str, headers: Mapping[str, str] | None = None) -> HTTPException:
    """An error whose `detail` is a text."""
    return HTTPException(status, detail, dict(headers or {}))


def invalid(place: tuple[str | int, ...], kind: str, message: str) -> RequestValidationError:
    """422 for one part of a request, such as ("body", "uuid")."""
    return RequestValidationError([{"type": kind, "loc": place, "msg": message, "input": None}])


def _version_headers(settings: Settings) -> dict[str, str]:
    said = version_of(settings)
    return {
        "X-Vcon-Server-Version": _as_header(said["version"]),
        "X-Vcon-Server-Commit": _as_header(said["git_commit"]),
    }


def _as_header(text: str) -> str:
    return "".join(one for one in text if " " <= one <= "~")


def _answer(request: Request, path: str, error: Exception) -> Response:
    route = f"{request.method} {path}"
    match error:
        case RequestValidationError():
            return JSONResponse({"detail": jsonable_encoder(_without_input(error))}, 422)
        case HTTPException():
            return _detail(error.status_code, str(error.detail), error.headers)
        case ProblemError():
            return _detail(error.status, error.detail, error.headers)
        case ConfigError():
            return _detail(422, str(error))
        case OutOfMemoryError():
            return _detail(503, "Redis is full: nothing was taken; try again later", _RETRY_S)
        case OperationError(kind="invalid"):
            return _detail(422, str(error))
        case OperationError(kind="unavailable"):
            return _detail(503, str(error), _RETRY_S)
    log.get_logger().warning("vcon_server_route_failed", route=route, error=str(error))
    return _detail(500, FAILURES.get(route, FAILURE))


def _without_input(error: RequestValidationError) -> list[dict[str, Any]]:
    """The errors without the client's input, which may be large or secret."""
    return [{**one, "input": None, "ctx": {}} for one in error.errors()]


def _detail(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": text}, status, dict(headers or {}))
