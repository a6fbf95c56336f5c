"""Idempotency-Key: a repeated request with the same key gets the same job.

Redis keeps conserver:idempotency:<hash of token name and key> for a day. Its value is "<hash of the
request> <job> <made>". `made` is 0 until the job is in the queue: the client may then repeat a
request that failed half-way. Afterwards `made` is 1: a job that has expired since is not run again.
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
"""How long a request without a key is remembered: some clients repeat requests by themselves."""


async def claim(
    client: redis.asyncio.Redis, owner: str, key: str, source: str, job: str = ""
) -> str:
    """The job id of a key: the first call stores `job` or a new id, later calls return that id.

    Raises:
        ProblemError: 422: the key was used with another request; 410: its job has expired.
    """
    told = hashlib.sha256(source.encode()).hexdigest()
    job = job or jobs.new_id()
    name = _name(owner, key)
    before: Any = None
    while before is None:  # Redis before 7 does not allow NX and GET in one SET.
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
    """Store that the job of this key is in the queue (made = 1)."""
    told = hashlib.sha256(source.encode()).hexdigest()
    await client.set(_name(owner, key), f"{told} {job} 1", ex=KEEP_S)


async def repeated(client: redis.asyncio.Redis, owner: str, source: str) -> str:
    """The job of an identical request without a key in the last RETRY_S; "" for none."""
    found: Any = await client.get(_name(owner, f"\n{source}"))
    return found.decode() if found else ""


async def note(shared: Multiplexed, owner: str, source: str, job: str) -> None:
    """Store the job of a request without a key, for `repeated`. Raises redis.RedisError."""
    name = _name(owner, f"\n{source}")
    (answer,) = await shared.execute(("SET", name, job, "EX", RETRY_S))
    if isinstance(answer, Exception):
        raise answer


def _name(owner: str, key: str) -> str:
    """The Redis key. A request without an Idempotency-Key has a `key` that no header can hold."""
    return keys.idempotency(hashlib.sha256(f"{owner}\n{key}".encode()).hexdigest())
