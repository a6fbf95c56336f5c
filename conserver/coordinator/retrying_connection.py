"""The coordinator's connections to Redis, on asyncio.

AsyncConnection is one connection with bounded waits; it repeats nothing. AsyncRetryingConnection
repeats a call until it is answered, for as long as Redis is away, because everything that the
coordinator does may be done twice. Its duties share one of these, and each call waits for its turn.
It also logs keys of the wrong type, whichever duty meets one; the duty goes on with other keys.
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
    """Makes connections to the Redis of one URL. Each belongs to its caller, who closes it."""

    def __init__(self, url: str) -> None:
        self._client = clients.async_client(url, timeout_s=None)

    def make(self) -> AbstractConnection:
        """A new connection, not opened yet."""
        pool = self._client.connection_pool
        made: AbstractConnection = pool.make_connection()
        return made


class AsyncConnection:
    """One connection, opened by the first command. It repeats nothing.

    Any failure closes it and is raised. So an answer is never taken for that of another command,
    and a caller that saw no error knows that the connection did not break in between.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: AbstractConnection | None = None

    async def ask(self, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        """Send several commands and wait for their answers: one round trip.

        Returns:
            The answers in order. One that is an error of its command is a ResponseError.

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
        """The answer to one command that was sent. Raises as `ask`, and the command's error."""
        return raise_first_error([await self._answer()])[0]

    async def close(self) -> None:
        """Close the connection. Redis drops a command that still waits on it."""
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
    """`call`, `command`, `commands` and `each` wait until Redis has answered, however long that
    takes. All but `each` raise WrongTypeError for a key of the wrong type.
    """

    def __init__(self, connections: Connections, log: Logger) -> None:
        self._connection = AsyncConnection(connections)
        self._log = log
        self._complaints = Complaints(log)
        self._lock = asyncio.Lock()

    async def call(self, call: Call) -> Any:
        """The answer of a script. Raises redis.ResponseError for an error that would come again."""
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
        """The answer of a plain command. It may be sent more than once."""
        return (await self.commands([words]))[0]

    async def commands(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several plain commands in one round trip. They may be sent again."""
        answers = await self._ask(commands)
        for words, answer in zip(commands, answers, strict=True):
            if isinstance(answer, ResponseError):
                raise await self.complain(answer, words[1:2])
        return answers

    async def each(self, commands: Sequence[Command]) -> list[Any]:
        """As `commands`, with None as the answer of a command that met a key of the wrong type."""
        answers = await self._ask(commands)
        for index, answer in enumerate(answers):
            if isinstance(answer, ResponseError):
                await self.complain(answer, commands[index][1:2])
                answers[index] = None
        return answers

    async def complain(self, error: ResponseError, used: Sequence[str | bytes]) -> WrongTypeError:
        """Log which keys have a wrong type: among those that a command used, or that its error
        names. Returns the exception to raise.
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
        """The answer of one command, sent once. Raises RedisError, OSError or TimeoutError."""
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
        while True:
            try:
                answers = await self._connection.ask(commands, ANSWER_TIMEOUT_S)
                raise_first_error([answer for answer in answers if not _is_wrong_type(answer)])
            except (RedisError, OSError, TimeoutError) as error:
                # Connect anew: after a failover this connection may lead to a replica.
                await self._connection.close()
                if isinstance(error, ResponseError) and not is_transient(error):
                    raise
                if not failures:
                    self._log.warning("redis_away", error=describe(error), what=advice(error))
                failures += 1
                await asyncio.sleep(backoff.backoff_s(failures, PAUSE_FIRST_S, PAUSE_MAX_S))
                continue
            if failures:
                away_s = round(time.monotonic() - away_since_s, 3)
                self._log.warning("redis_back", away_s=away_s, attempts=failures + 1)
            return answers


def raise_first_error(answers: list[Any]) -> list[Any]:
    """The answers themselves. Raises the first of them that is a ResponseError."""
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise answer
    return answers


def _is_wrong_type(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and is_wrong_type(answer)


def describe(error: BaseException) -> str:
    """The text of an error; a timeout has none of its own."""
    return str(error) or f"no answer in time ({type(error).__name__})"
