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


async def run_and_read(
    client: redis.asyncio.Redis, call: Call, job: str
) -> tuple[list[bytes], Job | None]:
    """The answer of one call, and the job as it is afterwards, in one round trip.

    Raises:
        redis.RedisError
    """
    from redis.exceptions import NoScriptError, RedisError

    answer, found = await _both(client, call.command(), job)
    if isinstance(answer, NoScriptError):
        answer, found = await _both(client, call.command(whole=True), job)
    if isinstance(answer, RedisError):
        raise answer
    return answer, jobs.load(job, found) if isinstance(found, dict) else None


async def _both(client: redis.asyncio.Redis, command: tuple[Any, ...], job: str) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    pipe.execute_command(*command)
    pipe.hgetall(keys.job(job))
    answers: list[Any] = await pipe.execute(raise_on_error=False)
    return answers


async def job_of(client: redis.asyncio.Redis, job: str) -> Job | None:
    """A job as it is now; None if it is not known (any more)."""
    found: Any = await client.hgetall(keys.job(job))
    return jobs.load(job, found)
