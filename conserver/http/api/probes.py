"""Liveness and readiness probes. They need no token, are cheap, and reveal nothing else.

/livez    200 while the process answers.
/readyz   200 if Redis answers too, else 503.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError

from conserver.http.api.context import context_of

router = APIRouter(tags=["probes"])

REDIS_S_MAX = 2.0


@router.get("/livez", summary="The process answers")
async def livez() -> dict[str, str]:
    """For a liveness probe."""
    return {"status": "ok"}


@router.get(
    "/readyz", summary="Redis answers too", responses={503: {"description": "Redis does not"}}
)
async def readyz(request: Request) -> JSONResponse:
    """For a readiness probe."""
    try:
        await asyncio.wait_for(_ping(request), REDIS_S_MAX)
    except (RedisError, TimeoutError, OSError):
        return JSONResponse({"status": "unavailable", "redis": "away"}, 503)
    return JSONResponse({"status": "ok", "redis": "ok"})


async def _ping(request: Request) -> None:
    await context_of(request).redis.ping()
