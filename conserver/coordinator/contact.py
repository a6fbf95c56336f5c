"""The first contact with Redis: a bounded wait, and words that tell a person what to mend."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from conserver.coordinator.retrying_connection import describe
from conserver.errors import EXIT_CONFIG, EXIT_UNAVAILABLE, BootError
from conserver.queue.retrying_connection import passes
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text

if TYPE_CHECKING:
    from conserver.coordinator.retrying_connection import AsyncRetryingConnection

RETRY_S = 0.1
VERSION_MIN = (6, 2)
"""BLMOVE and HRANDFIELD came with it."""


async def reach(line: AsyncRetryingConnection, url: str, timeout_s: float) -> None:
    """Wait until Redis answers.

    Raises:
        BootError: it did not within `timeout_s`, or never will: it refuses us, or is too old.
    """
    deadline_s = time.monotonic() + timeout_s
    where = f"Redis at {redact_text(url)}"
    told = False
    while True:
        try:
            _check_version(await line.attempt("HELLO"), where)
            return
        except (RedisError, OSError, TimeoutError) as error:
            reason = describe(error).rstrip(".")
            if _is_hopeless(error):
                raise BootError(
                    f"{where} refuses us: {reason}. Does REDIS_URL carry the right user, "
                    "password and database, and is it Redis 6.2 or later?",
                    EXIT_CONFIG,
                ) from None
            if time.monotonic() >= deadline_s:
                raise BootError(
                    f"{where} cannot be reached: {reason}. Waited {timeout_s:g} s "
                    f"(CONSERVER_BOOT_TIMEOUT_S). Is it up, and is REDIS_URL right?{_of_tls(url)}",
                    EXIT_UNAVAILABLE,
                ) from None
            if not told:
                told = True
                what = f"waiting for it, at most {timeout_s:g} s"
                log.get_logger().warning("redis_away", error=reason, what=what)
        await asyncio.sleep(RETRY_S)


def _of_tls(url: str) -> str:
    """With TLS 1.3 a server that misses our certificate says no more than that it hangs up."""
    if not url.startswith("rediss") or "ssl_certfile" in url:
        return ""
    return " Does it want a certificate of ours (ssl_certfile, ssl_keyfile)?"


def _is_hopeless(error: Exception) -> bool:
    if isinstance(error, ResponseError):
        return not passes(error)
    return isinstance(error, AuthenticationError)


def _check_version(hello: list[Any], where: str) -> None:
    version = dict(zip(hello[::2], hello[1::2], strict=False)).get(b"version", b"").decode()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < VERSION_MIN:
        raise BootError(f"{where} has version {version}; 6.2 is needed.", EXIT_UNAVAILABLE)
