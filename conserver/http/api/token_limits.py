"""The limits of one token: unfinished jobs at once, jobs per minute, and bytes of bodies per day.

Redis has the counts, so the limits hold over all replicas of the API. Scripts count unfinished jobs
when they make and end a job (submit.lua, prelude.lua). This module counts bytes before the body is
read, and jobs per minute before the job is made. Without a limit no command is sent.
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
    """The most unfinished jobs of a token; 0 for no limit."""
    return token.jobs_at_once or context.settings.api_jobs_at_once


def busy(token: Token, most: int) -> ProblemError:
    """The error if the token has `most` unfinished jobs: 429."""
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
        ProblemError: 429: the token has reached its limit for this minute.
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
    """Counts the bytes of one request against the token's limit per day."""

    def __init__(self, request: Request) -> None:
        self._context = context_of(request)
        token: Token | None = getattr(request.state, "token", None)
        self._name = token.name if token else ""
        self._most = 0
        if token is not None and not self._context.is_open:
            self._most = token.bytes_per_day or self._context.settings.api_bytes_per_day
        self._taken = 0

    async def take(self, size: int) -> None:
        """Count the body's bytes. size: received so far, or announced; repeated calls may grow.

        Raises:
            ProblemError: 429: they exceed what the token may still send today; 413: they exceed the
                limit of a whole day.
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
