"""Idempotency-Key: the same request sent again gets the same job.

A key belongs to a token. It is kept for a day, as conserver:idempotency:<hash of both> with
"<what the request was> <job> <made>": made is 0 until the job is in the queue, so that a request
that failed half-way may be sent again, and 1 afterwards, so that a job that has expired meanwhile
is not done once more.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from conserver.http.api.multiplexed import Multiplexed
from conserver.http.api.problems import ProblemError
from conserver.queue import jobs, keys

if TYPE_CHECKING:
    import redis.asyncio

KEEP_S = 86_400
RETRY_S = 900
"""How long a request without a key is known, for a client that repeats it by itself."""


async def claim(
    client: redis.asyncio.Redis, owner: str, key: str, source: str, job: str = ""
) -> str:
    """The job of a request under its key: `job` or a new id the first time, then always that one.

    Raises:
        ProblemError: 422: the key was used with another request; 410: its job has expired.
    """
    told = hashlib.sha256(source.encode()).hexdigest()
    job = job or jobs.new_id()
    name = _name(owner, key)
    before: Any = None
    while before is None:  # SET with NX and GET in one came with Redis 7 only.
        if await client.set(name, f"{told} {job} 0", nx=True, ex=KEEP_S):
            return job
        before = await client.get(name)
    seen, job, made = before.decode().split(" ")
    if seen != told:
        raise ProblemError(
            422, "this Idempotency-Key was used with another request", "idempotency-conflict"
        )
    if made == "1" and not await client.exists(keys.job(job)):
        raise ProblemError(410, "the job of this Idempotency-Key has ended and expired", "expired")
    return job


async def keep(client: redis.asyncio.Redis, owner: str, key: str, source: str, job: str) -> None:
    """Note that the job of this key is in the queue."""
    told = hashlib.sha256(source.encode()).hexdigest()
    await client.set(_name(owner, key), f"{told} {job} 1", ex=KEEP_S)


async def repeated(client: redis.asyncio.Redis, owner: str, source: str) -> str:
    """The job that a request without a key has made lately; "" for none."""
    found: Any = await client.get(_name(owner, f"repeat {source}"))
    return found.decode() if found else ""


async def note(shared: Multiplexed, owner: str, source: str, job: str) -> None:
    """Note the job of a request without a key, for `repeated`. Raises redis.RedisError."""
    name = _name(owner, f"repeat {source}")
    (answer,) = await shared.execute(("SET", name, job, "EX", RETRY_S))
    if isinstance(answer, Exception):
        raise answer


def _name(owner: str, key: str) -> str:
    return keys.idempotency(hashlib.sha256(f"{owner}\n{key}".encode()).hexdigest())
