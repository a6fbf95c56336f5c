"""/metrics and /metrics/queues on the API's own port, for tokens with the role `read`.

They show the same series as the metrics port (operations/monitoring/), and the API's requests.
Under `conserver api`, /metrics shows only the processes of the API.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from redis.exceptions import RedisError

from conserver.errors import BootError
from conserver.http.api.auth import requires
from conserver.http.api.context import Context, context_of
from conserver.http.api.problems import ProblemError
from conserver.operations import hosts
from conserver.operations.tokens import Token

router = APIRouter(prefix="/metrics", tags=["metrics"])

_ANSWERS: Any = {
    200: {"description": "In the text format, or as OpenMetrics", "content": {"text/plain": {}}},
    403: {"description": "The token has not the role, or is restricted to lists"},
    501: {"description": "The extra `metrics` is not installed"},
}


@router.get("", summary="What this host has counted", responses=_ANSWERS)
def host(request: Request, token: Annotated[Token, Depends(requires("read"))]) -> Response:
    """The series of workers, transcribers and the API. Without Redis some series are missing."""
    _check(token)
    from conserver.operations.monitoring.host import HostMetrics

    context = context_of(request)
    return _scrape(request, HostMetrics(context.statuses, _told(context)))


@router.get("/queues", summary="What Redis knows of all lists", responses=_ANSWERS)
def queues(request: Request, token: Annotated[Token, Depends(requires("read"))]) -> Response:
    """The series of all lists. Every host gives the same answer, so scrape one host."""
    _check(token)
    from conserver.operations.monitoring.queues import QueueMetrics

    context = context_of(request)
    with context.client() as client:
        return _scrape(request, QueueMetrics(client, list(context.config.ingress)))


def _check(token: Token) -> None:
    """Check that metrics can be shown to this token. Raises ProblemError."""
    from conserver.operations.monitoring import scrape

    if token.lists:
        detail = "metrics name all lists: they need a token that is not restricted to some"
        raise ProblemError(403, detail, "list-denied")
    try:
        scrape.check_extra()
    except BootError as error:
        raise ProblemError(501, str(error), "extra-missing") from None


def _scrape(request: Request, collector: Any) -> Response:
    from conserver.operations.monitoring.scrape import scrape

    body, kind = scrape(collector, request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": kind, "Cache-Control": "no-store"})


def _told(context: Context) -> Any:
    """What the supervisor of this process has published about its host, with its heartbeat."""
    from conserver.operations.monitoring.host import Host

    if not context.host:
        return Host()
    try:
        with context.client() as client:
            found = [one for one in hosts.read(client) if one.id == context.host]
            client.ping()
    except RedisError:
        return Host(redis_up=False)
    if not found:
        return Host(redis_up=True)
    return Host(
        supervisor=found[0].supervisor,
        workers=found[0].workers,
        storages=found[0].storages,
        redis_up=True,
    )
