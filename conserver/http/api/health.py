"""/health: whether a host takes items, how many transcriptions run, and the delivery timeouts.

The route needs no token, like vcon-server's /health, and has the same members `status` and
`version`.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from conserver.http.api.context import Context, context_of
from conserver.http.api.models import lists_that_transcribe
from conserver.http.api.vcon_server.route import version_of
from conserver.operations import capacity, hosts, redis_faults
from conserver.operations.hosts import Host
from conserver.outbound.send import Limits

router = APIRouter(tags=["probes"])


class Version(BaseModel):
    """The version, in vcon-server's form."""

    version: str
    git_commit: str
    build_time: str


class Concurrency(BaseModel):
    """Transcriptions of all hosts."""

    slots: int = Field(description="The most at once: MAX_CONCURRENT_REQUESTS per transcriber.")
    busy: int
    waiting: int = Field(description="Those that wait for a slot or in the queue.")


class Timeouts(BaseModel):
    """Limits for one try to send a result to a presigned URL or a webhook, in seconds."""

    upload_timeout_seconds: float = Field(description="In all: UPLOAD_TIMEOUT_SECONDS.")
    connect: float
    read: float
    write: float
    pool: float


class Health(BaseModel):
    """Sent with 200 while items are taken, with 503 while not."""

    status: Literal["healthy", "unhealthy"]
    reason: str = Field(description='Why it is unhealthy; "" otherwise.')
    version: Version
    concurrency: Concurrency
    timeouts: Timeouts


@router.get(
    "/health",
    summary="Whether work is done, and how much at once",
    response_model=Health,
    responses={503: {"model": Health, "description": "Nobody takes items, or Redis is away"}},
)
def health(request: Request) -> JSONResponse:
    """Reports on the host to which this API belongs; `conserver api` reports on all hosts."""
    context = context_of(request)
    try:
        reason, now = _look(context)
    except (RedisError, OSError) as error:
        reason, now = redis_faults.why(error), Concurrency(slots=0, busy=0, waiting=0)
    found = Health(
        status="unhealthy" if reason else "healthy",
        reason=reason,
        version=Version(**version_of(context.settings)),
        concurrency=now,
        timeouts=_timeouts(Limits(total_s=context.settings.upload_timeout_s)),
    )
    return JSONResponse(found.model_dump(), 503 if reason else 200)


def _look(context: Context) -> tuple[str, Concurrency]:
    with context.client() as client:
        known = hosts.read(client)
        lists, items = lists_that_transcribe(context.config), context.settings.vcon_concurrency
        found = capacity.capacity(client, known, lists, items)
    ours = [host for host in known if context.host in ("", host.id)]
    return _why_not(ours), Concurrency(slots=found.slots, busy=found.busy, waiting=found.waiting)


def _timeouts(limits: Limits) -> Timeouts:
    return Timeouts(
        upload_timeout_seconds=limits.total_s,
        connect=limits.connect_s,
        read=limits.read_s,
        write=limits.write_s,
        pool=limits.pool_s,
    )


def _why_not(ours: list[Host]) -> str:
    """Why none of these hosts takes items; "" if one does."""
    if any(host.consumes for host in ours):
        return ""
    return "; ".join(hosts.why_not(host) for host in ours) or "no host is running"
