"""The worker's one connection to Redis.

1. One call at a time, repeated until it is answered: every script may be executed twice.
2. It never waits longer than a slice without calling `tick`, where the keeper stamps its page and
   looks for the end of its supervisor. A Redis that is away for an hour stalls nobody and kills
   nobody.
3. Errors that pass (away, loading, failing over, out of memory, a lost script) are waited out and
   logged once; errors that would come again for ever are raised.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from conserver import failpoints
from conserver.queue import clients as connection
from conserver.queue.script import Call

if TYPE_CHECKING:
    from redis.connection import ConnectionInterface
    from structlog.typing import FilteringBoundLogger

SLICE_S = 0.5
CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 20.0
PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.5)
PASSING_KINDS = (
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
# redis-py has no class for the first three. Redis 6.2 wraps whatever a script ran into as
# "Error running script (...): @user_script: 20: -READONLY You can't write ...".
PASSING = re.compile(
    r"(^|: -)(MISCONF|BUSY|NOREPLICAS|MASTERDOWN|TRYAGAIN|READONLY|OOM|NOPERM|LOADING) "
)


_HEADS = tuple(b"$%d\r\n" % size for size in range(128))  # of words that are not documents


def pack(words: Sequence[Any]) -> bytes:
    """A command in Redis's protocol (RESP): texts and numbers as UTF-8, bytes as they are.

    redis-py's packer looks at each word more than once; with a document among them, this is half.
    """
    pieces: list[bytes] = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if type(word) is bytes else str(word).encode()
        size = len(data)
        pieces += (_HEADS[size] if size < len(_HEADS) else b"$%d\r\n" % size, data, b"\r\n")
    return b"".join(pieces)


def passes(error: ResponseError) -> bool:
    """Whether an error says how Redis is at the moment, not what is wrong with the command."""
    return isinstance(error, PASSING_KINDS) or PASSING.search(str(error)) is not None


def what_now(error: Exception) -> str:
    """What whoever reads of an error that passes should know."""
    if isinstance(error, NoPermissionError):
        return "waiting until the ACL of this Redis user allows it: see `conserver doctor`"
    if isinstance(error, ResponseError):
        return "it is up and refuses this; waiting until it does not"
    return "waiting until it answers"


class RetryingConnection:
    """`call` and `command` block until Redis has answered, however long that takes."""

    def __init__(self, url: str, tick: Callable[[], None], log: FilteringBoundLogger) -> None:
        self._pool = connection.pool(url, timeout_s=SLICE_S, connect_timeout_s=CONNECT_TIMEOUT_S)
        # One object for all reconnections: a pool counts those it has made and stops at a hundred.
        self._connection: ConnectionInterface = self._pool.make_connection()
        self._tick = tick
        self._log = log
        self.calls = 0
        self.repeats = 0

    def call(self, call: Call) -> Any:
        """The answer of a script. Raises redis.ResponseError for an error that a repetition would
        not mend.
        """
        failpoints.at(f"before-{call.step}")
        answer = self._until_answered(call.command(), call)
        failpoints.at(f"after-{call.step}")
        return answer

    def command(self, *words: Any) -> Any:
        """The answer of a plain command that may be repeated."""
        return self._until_answered(words, None)

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        self._connection.disconnect()

    def _until_answered(self, words: tuple[Any, ...], call: Call | None) -> Any:
        failures = 0
        away_since = 0.0
        whole = False
        while True:
            self.calls += 1
            try:
                answer = self._once(words)
            except NoScriptError:
                if call is None:
                    raise
                whole = True
                words = call.command(whole, repeated=failures > 0)
                continue
            except (RedisConnectionError, RedisTimeoutError, ResponseError, OSError) as error:
                if isinstance(error, ResponseError) and not passes(error):
                    raise
                self.close()
                if not failures:
                    away_since = time.monotonic()
                    self._log.warning("redis_away", error=str(error), what=what_now(error))
                failures += 1
                self.repeats += 1
                if call is not None:
                    words = call.command(whole, repeated=True)
                self._pause(PAUSES_S[min(failures, len(PAUSES_S)) - 1])
                continue
            if failures:
                away_s = round(time.monotonic() - away_since, 3)
                self._log.warning("redis_back", away_s=away_s, attempts=failures + 1)
            return answer

    def _once(self, words: tuple[Any, ...]) -> Any:
        connection = self._connection
        connection.connect()  # does nothing while it is connected
        try:
            connection.send_packed_command([pack(words)], check_health=False)
            for _ in range(int(ANSWER_TIMEOUT_S / SLICE_S)):
                try:
                    return connection.read_response(disconnect_on_error=False)
                except RedisTimeoutError:
                    self._tick()  # what has come of the answer is kept: the next read goes on
            raise RedisTimeoutError(f"no answer for {ANSWER_TIMEOUT_S:.0f} s")
        except ResponseError:
            raise
        except BaseException:
            # Whatever cuts a call short, `tick` included: its answer must not be taken for the next
            # one's.
            self.close()
            raise

    def _pause(self, pause_s: float) -> None:
        self._tick()
        time.sleep(pause_s)
