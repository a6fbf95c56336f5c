"""The coordinator's connections to Redis, on asyncio.

AsyncConnection is one connection with bounded waits; it repeats nothing. AsyncRetryingConnection
repeats a call until Redis answers, however long Redis is away: all calls of the coordinator are
safe to repeat. The duties share one AsyncRetryingConnection, so their calls wait for each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, RedisError, ResponseError

from conserver.process import backoff, failpoints
from conserver.queue import clients
from conserver.queue.retrying_connection import (
    PAUSE_FIRST_S,
    PAUSE_MAX_S,
    advice,
    is_transient,
)
from conserver.queue.wrong_type import Complaints, WrongTypeError, is_wrong_type, kind_of

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from conserver.queue.script import Call
    from conserver.telemetry.log import Logger

ANSWER_TIMEOUT_S = 5.0

Command = tuple[Any, ...]


class Connections:
    """Makes connections to the Redis of one URL. The caller must close each connection."""

    def __init__(self, url: str) -> None:
        self._client = clients.async_client(url, timeout_s=None)

    def make(self) -> AbstractConnection:
        """A new connection, not opened yet."""
        pool = self._client.connection_pool
        made: AbstractConnection = pool.make_connection()
        return made


class AsyncConnection:
    """One connection, opened by the first command. It repeats nothing.

    A failure closes the connection and is raised. So no answer is taken for that of another
    command, and without an exception the connection has not broken (reaper.py needs that). An error
    that Redis answers does not close the connection.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: AbstractConnection | None = None

    async def ask(self, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        """Send several commands and wait for their answers: one round trip.

        Returns:
            The answers in order. If a command failed, its answer is a ResponseError.

        Raises:
            RedisError, OSError, TimeoutError: Redis is away, or refuses this connection.
        """
        async with asyncio.timeout(timeout_s):
            await self.send(commands)
            return [await self._answer() for _ in commands]

    async def send(self, commands: Sequence[Command]) -> None:
        """Connect if necessary, and send without waiting for answers. Raises as `ask`."""
        try:
            if self._connection is None:
                self._connection = self._connections.make()
                await self._connection.connect()
            packed = self._connection.pack_commands(commands)
            await self._connection.send_packed_command(packed, check_health=False)
        except BaseException:
            await self.close()
            raise

    async def receive(self) -> Any:
        """Wait for the answer to one command that was sent. Raises as `ask`, and the command's
        ResponseError.
        """
        return raise_first_error([await self._answer()])[0]

    async def close(self) -> None:
        """Close the connection. Redis then drops a blocking command that waits on it."""
        dropped, self._connection = self._connection, None
        if dropped is not None:
            await dropped.disconnect(nowait=True)

    async def _answer(self) -> Any:
        if self._connection is None:
            raise ConnectionResetError("the connection was closed while an answer was due")
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error
        except BaseException:
            await self.close()
            raise


class AsyncRetryingConnection:
    """A connection whose `call`, `command`, `commands` and `each` wait until Redis has answered.

    `call`, `command` and `commands` raise WrongTypeError for a key of the wrong type. is_away: set
    while a call waits that Redis has not answered twice.
    """

    def __init__(self, connections: Connections, log: Logger) -> None:
        self.is_away = asyncio.Event()
        self._connection = AsyncConnection(connections)
        self._log = log
        self._complaints = Complaints(log)
        self._lock = asyncio.Lock()

    async def call(self, call: Call) -> Any:
        """Call a script. Returns its answer. Raises ResponseError if an error is not transient."""
        failpoints.at(f"before-{call.step}")
        try:
            [answer] = await self._ask([call.command()])
        except NoScriptError:
            [answer] = await self._ask([call.command(whole=True)])
        if isinstance(answer, ResponseError):
            raise await self.complain(answer, call.keys)
        failpoints.at(f"after-{call.step}")
        return answer

    async def command(self, *words: Any) -> Any:
        """Send a plain command. Returns its answer. The command may be sent more than once."""
        return (await self.commands([words]))[0]

    async def commands(self, commands: Sequence[Command]) -> list[Any]:
        """As `command`, for several commands in one round trip."""
        answers = await self._ask(commands)
        for words, answer in zip(commands, answers, strict=True):
            if isinstance(answer, ResponseError):
                raise await self.complain(answer, words[1:2])
        return answers

    async def each(self, commands: Sequence[Command]) -> list[Any]:
        """As `commands`, but the answer is None for a command that met a key of the wrong type."""
        answers = await self._ask(commands)
        for index, answer in enumerate(answers):
            if isinstance(answer, ResponseError):
                await self.complain(answer, commands[index][1:2])
                answers[index] = None
        return answers

    async def complain(self, error: ResponseError, used: Sequence[str | bytes]) -> WrongTypeError:
        """Log the keys of the wrong type, among those that the failed command used or that its
        error names. Returns the exception to raise.
        """
        names = [key.decode() if isinstance(key, bytes) else key for key in used]
        _, named, rest = str(error).partition("WRONGTYPE conserver:")
        if named:
            names.append(f"conserver:{rest}")
        kinds = await self._ask([("TYPE", name) for name in names])
        for name, kind in zip(names, kinds, strict=True):
            if kind.decode() not in (kind_of(name), "none"):
                self._complaints.tell(name, kind.decode())
        return WrongTypeError(str(error))

    async def try_once(self, *words: Any) -> Any:
        """Send one command once. Returns its answer. Raises RedisError, OSError or TimeoutError."""
        async with self._lock:
            answers = await self._connection.ask([words], ANSWER_TIMEOUT_S)
            return raise_first_error(answers)[0]

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        async with self._lock:
            return await self._until_answered(commands)

    async def _until_answered(self, commands: Sequence[Command]) -> list[Any]:
        failures, away_since_s = 0, time.monotonic()
        told: set[str] = set()
        self.is_away.clear()
        while True:
            try:
                answers = await self._connection.ask(commands, ANSWER_TIMEOUT_S)
                raise_first_error([answer for answer in answers if not _is_wrong_type(answer)])
            except (RedisError, OSError, TimeoutError) as error:
                # Connect anew: after a failover this connection may lead to a replica.
                await self._connection.close()
                if isinstance(error, ResponseError) and not is_transient(error):
                    raise
                if (what := advice(error)) not in told:
                    told.add(what)
                    self._log.warning("redis_away", error=describe(error), what=what)
                failures += 1
                if failures > 1:  # The first failure may only be that of an old connection.
                    self.is_away.set()
                await asyncio.sleep(backoff.backoff_s(failures, PAUSE_FIRST_S, PAUSE_MAX_S))
                continue
            if failures:
                away_s = round(time.monotonic() - away_since_s, 3)
                self._log.warning("redis_back", away_s=away_s, attempts=failures + 1)
                self.is_away.clear()
            return answers


def raise_first_error(answers: list[Any]) -> list[Any]:
    """Return the answers, or raise the first ResponseError among them."""
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise answer
    return answers


def _is_wrong_type(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and is_wrong_type(answer)


def describe(error: BaseException) -> str:
    """The text of an error; a timeout has none of its own."""
    return str(error) or f"no answer in time ({type(error).__name__})"
