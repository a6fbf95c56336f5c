"""Runs the queue's Lua scripts over the API's asynchronous connection."""

from __future__ import annotations

from typing import Any

from conserver.http.api.multiplexed import Multiplexed
from conserver.queue import jobs, keys
from conserver.queue.jobs import Job
from conserver.queue.script import Call


async def run(redis: Multiplexed, call: Call) -> Any:
    """The answer of one call. Raises redis.RedisError."""
    from redis.exceptions import NoScriptError, RedisError

    (answer,) = await redis.execute(call.command())
    if isinstance(answer, NoScriptError):
        (answer,) = await redis.execute(call.command(whole=True))
    if isinstance(answer, RedisError):
        raise answer
    return answer


async def run_and_read(redis: Multiplexed, call: Call, job: str) -> tuple[list[bytes], Job | None]:
    """The answer of one call, and the job as it is afterwards, in one round trip.

    Raises:
        redis.RedisError
    """
    from redis.exceptions import NoScriptError, RedisError

    look = ("HGETALL", keys.job(job))
    answer, found = await redis.execute(call.command(), look)
    if isinstance(answer, NoScriptError):
        answer, found = await redis.execute(call.command(whole=True), look)
    if isinstance(answer, RedisError):
        raise answer
    return answer, _load(job, found)


async def job_of(redis: Multiplexed, job: str) -> Job | None:
    """The present state of a job; None if unknown or expired. Raises redis.RedisError."""
    (found,) = await redis.execute(("HGETALL", keys.job(job)))
    return _load(job, found)


def _load(job: str, found: Any) -> Job | None:
    if isinstance(found, Exception):
        raise found
    return jobs.load(job, dict(zip(found[::2], found[1::2], strict=True)))
