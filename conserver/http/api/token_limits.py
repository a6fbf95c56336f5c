"""What one token may have: unfinished jobs at once, jobs per minute, and bytes of bodies on a day.

All are counted in Redis, so that they hold over all replicas of the API: unfinished jobs by the
scripts that make and end them (submit.lua, prelude.lua), the others here: bytes before they are
read, jobs before they are made. A token without a limit costs nothing.
"""

from __future__ import annotations

from starlette.requests import Request

from conserver.http.api import queue
from conserver.http.api.context import Context, context_of
from conserver.http.api.problems import ProblemError
from conserver.operations.tokens import Token
from conserver.queue import limits

BUSY_RETRY_S = 10


def jobs_at_once(context: Context, token: Token) -> int:
    """How many jobs of a token may be unfinished; 0 for any number."""
    return token.jobs_at_once or context.settings.api_jobs_at_once


def busy(token: Token, most: int) -> ProblemError:
    """429: all jobs that the token may have at once are unfinished."""
    return ProblemError(
        429,
        f"{most} jobs of the token `{token.name}` are unfinished, and it may have no more at once;"
        " try again when one has ended, or cancel one",
        "too-many-jobs",
        {"Retry-After": str(BUSY_RETRY_S)},
    )


async def count_job(context: Context, token: Token) -> None:
    """Count a job that the token submits in this minute.

    Raises:
        ProblemError: 429 where it were one too many.
        redis.RedisError
    """
    most = token.jobs_per_minute or context.settings.api_jobs_per_minute
    if not most or context.is_open:
        return
    good, made, *left_s = await queue.run(context.shared, limits.submitted(token.name, most))
    if good == b"type":
        raise _wrong_type(made, left_s[0])
    if not good:
        raise ProblemError(
            429,
            f"the token `{token.name}` has submitted its {most} jobs of this minute",
            "too-many-jobs",
            {"Retry-After": str(left_s[0])},
        )


def _wrong_type(key: bytes, kind: bytes) -> ProblemError:
    return ProblemError(
        409,
        f"{key.decode()} is a {kind.decode()} in Redis: an operator has to rename it",
        "wrong-type",
    )


class Allowance:
    """What the sender of one request may still send today."""

    def __init__(self, request: Request) -> None:
        self._context = context_of(request)
        token: Token | None = getattr(request.state, "token", None)
        self._name = token.name if token else ""
        self._most = 0
        if token is not None and not self._context.is_open:
            self._most = token.bytes_per_day or self._context.settings.api_bytes_per_day
        self._taken = 0

    async def take(self, size: int) -> None:
        """So many bytes of the body have come so far, or will.

        Raises:
            ProblemError: 429 where they are more than the token may send today, 413 where no day
                has room for them.
            redis.RedisError
        """
        if not self._most or size <= self._taken:
            return
        if size > self._most:
            raise ProblemError(
                413,
                f"the token `{self._name}` may send {self._most} bytes on a day, and this is more",
                "too-large",
                max_bytes=self._most,
            )
        more = size - self._taken
        call = limits.spend(self._name, more, self._most)
        good, sent, *left_s = await queue.run(self._context.shared, call)
        if good == b"type":
            raise _wrong_type(sent, left_s[0])
        if not good:
            raise ProblemError(
                429,
                f"the token `{self._name}` has sent {int(sent)} of its {self._most} bytes of today"
                " (UTC), and this is more than what is left",
                "too-many-bytes",
                {"Retry-After": str(left_s[0])},
            )
        self._taken += more
