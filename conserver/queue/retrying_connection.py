"""A worker's connection to Redis: it repeats a call until Redis answers.

1. The connection sends one call at a time, and repeats it until Redis answers. So Redis may execute
   a script twice; all scripts are written for that.
2. While the connection waits, it calls `tick` at least once a second. In `tick` the worker loop
   updates its heartbeat and notices that its supervisor has ended. So the watchdog does not kill a
   worker, however long Redis is away.
3. The connection logs a transient error once, and tries again until Redis answers (Redis is away,
   loading, failing over, out of memory, or lacks a permission or a script). It logs each further
   advice once per outage. It raises an error that would always come again.
4. If a command inside a script lacks a permission, the script may have been executed in part. The
   connection repeats only a claim then. Other scripts remove an item before they add it elsewhere,
   so each repetition might lose one more item.
5. While a claim waits, `unsure` says whether the claim may have taken items. A worker that drains
   waits for the answer to such a claim. It need not wait for any other call.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import hiredis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from conserver.process import backoff, failpoints
from conserver.queue import clients
from conserver.queue.script import Call

if TYPE_CHECKING:
    from redis.connection import ConnectionInterface
    from structlog.typing import FilteringBoundLogger

TICK_EVERY_S = 0.5
CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 20.0
PAUSE_FIRST_S, PAUSE_MAX_S = 0.02, 0.5  # the backoff while Redis is away
TRANSIENT_ERRORS = (
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
# redis-py has no class for the first three. In a script Redis 6.2 hides all of them in the text
# "Error running script (...): @user_script: 20: -READONLY You can't write ...".
TRANSIENT = re.compile(
    r"(^|: -)(MISCONF|BUSY|NOREPLICAS|MASTERDOWN|TRYAGAIN|READONLY|OOM|NOPERM|LOADING) "
)
# Redis says this if a command inside a script lacks a permission: up to 7.0, and from 7.2 on.
_DENIED_IN_SCRIPT = re.compile(r"(^|: )(The user executing the script |ACL failure in script: )")
# Redis's answer to a command of more than ten words, or with a large one, where it wants a login.
_LOGIN_MISSING = "Protocol error: unauthenticated "

LARGE_BYTES = 1 << 16


def pack(words: Sequence[Any]) -> bytes:
    """Encode a command in Redis's protocol (RESP): bytes stay, other values become UTF-8 text."""
    for word in words:
        if type(word) is bytes and len(word) >= LARGE_BYTES:
            break  # hiredis would copy the word several times.
    else:
        with suppress(TypeError):  # hiredis takes str, int, float and bytes only.
            packed: bytes = hiredis.pack_command(tuple(words))
            return packed
    pieces: list[bytes] = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if type(word) is bytes else str(word).encode()
        pieces += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(pieces)


def is_transient(error: ResponseError) -> bool:
    """Whether an error comes from Redis's present condition, and not from the command."""
    text = str(error)
    if text.startswith(_LOGIN_MISSING):
        return True
    return isinstance(error, TRANSIENT_ERRORS) or TRANSIENT.search(text) is not None


def denied_in_script(error: Exception) -> bool:
    """Whether a command inside a script lacked a permission. Commands before it were executed."""
    return _DENIED_IN_SCRIPT.search(str(error)) is not None


def lacks_permission(error: Exception) -> bool:
    """Whether the Redis user may not execute a command, or a command inside a script."""
    return isinstance(error, NoPermissionError) or denied_in_script(error)


def advice(error: Exception) -> str:
    """The advice that is logged with a transient error: what the process waits for."""
    if lacks_permission(error):
        return "waiting until the ACL of this Redis user allows it: see `conserver doctor`"
    if isinstance(error, AuthenticationError) or str(error).startswith(_LOGIN_MISSING):
        return "it refuses the login of REDIS_URL; waiting until it does not"
    if isinstance(error, ResponseError):
        return "it is up and refuses this; waiting until it does not"
    return "waiting until it answers"


class RetryingConnection:
    """A connection whose `call` and `command` block until Redis has answered.

    calls: how many calls were sent. repeats: how many of these were repetitions after a failure.
    unsure: whether a claim waits that Redis may have executed.
    beside: commands that are sent with the next call. Their answers and errors are ignored, and
    they may be sent twice.
    """

    def __init__(self, url: str, tick: Callable[[], None], log: FilteringBoundLogger) -> None:
        """tick: called at least once a second while a call waits. An exception from it ends the
        call.
        """
        # Keep the pool alive: a Sentinel connection has only a weak reference to it.
        self._pool = clients.pool(url, timeout_s=TICK_EVERY_S, connect_timeout_s=CONNECT_TIMEOUT_S)
        # One connection object, which reconnects, because the pool makes a limited number of them.
        self._connection: ConnectionInterface = self._pool.make_connection()
        self._tick = tick
        self._log = log
        self.calls = 0
        self.repeats = 0
        self.unsure = False
        self.beside: list[tuple[Any, ...]] = []

    def call(self, call: Call) -> Any:
        """Call a script. Returns its answer. Raises redis.ResponseError for an error that is not
        transient.
        """
        failpoints.at(f"before-{call.step}")
        answer = self._until_answered(call.command(), call)
        failpoints.at(f"after-{call.step}")
        return answer

    def command(self, *words: Any) -> Any:
        """Send a plain command. Returns its answer. The command may be sent more than once."""
        return self._until_answered(words, None)

    def hints(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands that may get lost, in one packet and only once. Returns their answers; None
        for each command that Redis refused or did not answer.
        """
        try:
            self._connection.connect()
            packet = b"".join(map(pack, commands))
            self._connection.send_packed_command([packet], check_health=False)
            return [self._hint() for _ in commands]
        except (RedisConnectionError, RedisTimeoutError, OSError):
            self.close()
            return [None] * len(commands)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._connection.disconnect()

    def close_if_ended(self) -> None:
        """Close the connection if Redis has closed it. Otherwise a claim would be sent on it, and
        `unsure` would be true.
        """
        if self._connection.is_connected:
            try:
                # All answers were read, so there is nothing to read but the end.
                ended = self._connection.can_read()
            except (RedisConnectionError, OSError):
                ended = True
            if ended:
                self.close()

    def _until_answered(self, words: tuple[Any, ...], call: Call | None) -> Any:
        failures = 0
        away_since = 0.0
        told: set[str] = set()
        whole = self.unsure = False
        claims = call is not None and call.name == "claim"
        while True:
            self.calls += 1
            try:
                answer = self._once(words, claims)
            except NoScriptError:
                if call is None:
                    raise
                whole = True
                words = call.command(whole, repeated=failures > 0)
                continue
            except (RedisConnectionError, RedisTimeoutError, ResponseError, OSError) as error:
                if isinstance(error, ResponseError) and not (
                    is_transient(error) or (claims and denied_in_script(error))
                ):
                    raise
                self.close()
                if not failures:
                    away_since = time.monotonic()
                if (what := advice(error)) not in told:
                    told.add(what)
                    self._log.warning("redis_away", error=str(error), what=what)
                failures += 1
                self.repeats += 1
                if call is not None:
                    words = call.command(whole, repeated=True)
                self._tick()
                time.sleep(backoff.backoff_s(failures, PAUSE_FIRST_S, PAUSE_MAX_S))
                self._tick()  # To connect may take as long again.
                continue
            if failures:
                away_s = round(time.monotonic() - away_since, 3)
                self._log.warning("redis_back", away_s=away_s, attempts=failures + 1)
            self.unsure = False
            return answer

    def _once(self, words: tuple[Any, ...], claims: bool) -> Any:
        connection, beside = self._connection, self.beside
        connection.connect()  # does nothing if it is connected
        before, self.unsure = self.unsure, self.unsure or claims
        try:
            packed = [pack(words), *map(pack, beside)] if beside else [pack(words)]
            connection.send_packed_command(packed, check_health=False)
            if not beside:
                return self._answer()
            answer: Any = None
            refusal: ResponseError | None = None
            try:
                answer = self._answer()
            except ResponseError as error:
                refusal = error
            for _ in beside:
                with suppress(ResponseError):
                    self._answer()
            self.beside = []
            if refusal is not None:
                raise refusal
            return answer
        except (ResponseError, BusyLoadingError) as error:
            # Redis refuses a script before its first write. Only a command inside the script that
            # lacks a permission may stop a script that has written something.
            if not denied_in_script(error):
                self.unsure = before
            raise
        except BaseException:
            # `tick` may have raised, too. The answer that is still to come must not be taken for
            # the answer of the next call.
            self.close()
            raise

    def _answer(self) -> Any:
        for _ in range(int(ANSWER_TIMEOUT_S / TICK_EVERY_S)):
            try:
                return self._connection.read_response(disconnect_on_error=False)
            except RedisTimeoutError:
                self._tick()  # the next read continues with the part that has arrived
        raise RedisTimeoutError(f"no answer for {ANSWER_TIMEOUT_S:.0f} s")

    def _hint(self) -> Any:
        try:
            return self._answer()
        except ResponseError:
            return None
