"""Scripts of the queue over the API's asynchronous client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conserver.queue import jobs, keys
from conserver.queue.jobs import Job
from conserver.queue.script import Call

if TYPE_CHECKING:
    import redis.asyncio


async def run(client: redis.asyncio.Redis, call: Call) -> Any:
    """Send one call. Raises redis.RedisError."""
    from redis.exceptions import NoScriptError

    try:
        return await client.execute_command(*call.command())
    except NoScriptError:
        return await client.execute_command(*call.command(whole=True))


async def job_of(client: redis.asyncio.Redis, job: str) -> Job | None:
    """A job as it is now; None if it is not known (any more)."""
    found: Any = await client.hgetall(keys.job(job))
    return jobs.load(job, found)
