"""The first contact with Redis: waits for it, refuses an unusable one, warns of risky settings."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from conserver.coordinator.connections import describe
from conserver.errors import EXIT_CONFIG, EXIT_UNAVAILABLE, BootError
from conserver.queue.retrying_connection import is_transient
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text

if TYPE_CHECKING:
    from conserver.coordinator.connections import AsyncRetryingConnection
    from conserver.operations.doctor import Verdict

RETRY_S = 0.1
VERSION_MIN = (6, 2)
"""The version that brought BLMOVE and HRANDFIELD."""


async def wait_for_redis(redis: AsyncRetryingConnection, url: str, timeout_s: float) -> None:
    """Wait until Redis answers.

    Raises:
        BootError: Redis did not answer within `timeout_s`, rejects the credentials or the database
            of the URL, or is too old.
    """
    deadline_s = time.monotonic() + timeout_s
    where = f"Redis at {redact_text(url)}"
    logged = False
    while True:
        try:
            _check_version(await redis.try_once("HELLO"), where)
            return
        except (RedisError, OSError, TimeoutError) as error:
            reason = describe(error).rstrip(".")
            if _is_permanent(error):
                raise BootError(
                    f"{where} refuses us: {reason}. Does REDIS_URL carry the right user, "
                    "password and database, and is it Redis 6.2 or later?",
                    EXIT_CONFIG,
                ) from None
            if time.monotonic() >= deadline_s:
                raise BootError(
                    f"{where} cannot be reached: {reason}. Waited {timeout_s:g} s (CONSERVER_BOOT_"
                    f"TIMEOUT_S). Is it up, and is REDIS_URL right?{_tls_hint(url)}",
                    EXIT_UNAVAILABLE,
                ) from None
            if not logged:
                logged = True
                what = f"waiting for it, at most {timeout_s:g} s"
                log.get_logger().warning("redis_away", error=reason, what=what)
        await asyncio.sleep(RETRY_S)


async def warn_of_settings(redis: AsyncRetryingConnection) -> None:
    """Log a warning for each setting of Redis, and for a missing right, with which items may get
    lost.
    """
    for examine in (_eviction, _persistence, _rights):
        try:
            found = await examine(redis)
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            # A hosted Redis may refuse CONFIG GET, a Redis before 7 knows no ACL DRYRUN.
            log.get_logger().debug("redis_settings_unknown", error=describe(error))
            continue
        if found.level != "ok":
            log.get_logger().warning(
                "redis_may_lose_items", found=found.text, subject=found.subject, advice=found.advice
            )


async def _eviction(redis: AsyncRetryingConnection) -> Verdict:
    from conserver.operations import doctor

    memory = _fields(await redis.try_once("INFO", "memory"))
    limit = int(memory.get("maxmemory", 0))
    return doctor.eviction(memory.get("maxmemory_policy", ""), 0, limit)


async def _persistence(redis: AsyncRetryingConnection) -> Verdict:
    from conserver.operations import doctor

    kept = _fields(await redis.try_once("INFO", "persistence"))
    _, saves = await redis.try_once("CONFIG", "GET", "save")
    _, syncs = await redis.try_once("CONFIG", "GET", "appendfsync")
    return doctor.persistence(kept.get("aof_enabled") == "1", syncs.decode(), saves.decode())


async def _rights(redis: AsyncRetryingConnection) -> Verdict:
    """A script stops at a command that the Redis user may not call, and Redis does not undo what
    the script has done.
    """
    from conserver.operations import doctor

    user = (await redis.try_once("ACL", "WHOAMI")).decode()
    missing = [
        command
        for command in doctor.REDIS_COMMANDS
        if await redis.try_once(*doctor.dry_run(user, command)) != b"OK"
    ]
    return doctor.rights(user, missing)


def _fields(info: bytes) -> dict[str, str]:
    """Parse an answer to INFO."""
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _tls_hint(url: str) -> str:
    """A hint for a rediss:// URL without a client certificate. With TLS 1.3 a server that requires
    one only closes the connection.
    """
    if not url.startswith("rediss") or "ssl_certfile" in url:
        return ""
    return " Does it want a certificate of ours (ssl_certfile, ssl_keyfile)?"


def _is_permanent(error: Exception) -> bool:
    if isinstance(error, ResponseError):
        return not is_transient(error)
    return isinstance(error, AuthenticationError)


def _check_version(hello: list[Any], where: str) -> None:
    version = dict(zip(hello[::2], hello[1::2], strict=False)).get(b"version", b"").decode()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < VERSION_MIN:
        raise BootError(f"{where} has version {version}; 6.2 is needed.", EXIT_UNAVAILABLE)
