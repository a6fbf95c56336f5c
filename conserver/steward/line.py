"""The steward's connections to Redis: bounded waits, nothing repeated but by us.

`Line` repeats a call until it is answered, for as long as Redis is away, because everything that
the steward does may be done twice. Duties share one line, each call waits for its turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, RedisError, ResponseError

from conserver import failpoints
from conserver.queue import connection
from conserver.queue.line import PAUSES_S, passes

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from conserver.log import Logger
    from conserver.queue.calls import Call

ANSWER_TIMEOUT_S = 5.0

Command = tuple[Any, ...]


class Connections:
    """Makes connections to the Redis of one URL, each of which belongs to its caller."""

    def __init__(self, url: str) -> None:
        self._client = connection.async_client(url, timeout_s=None)

    def make(self) -> AbstractConnection:
        """A connection that is not open yet."""
        pool = self._client.connection_pool
        made: AbstractConnection = pool.make_connection()
        return made


class Wire:
    """One connection, opened when it is first needed. It repeats nothing.

    Any failure closes it and is raised, so no answer is ever taken for that of another command, and
    whoever saw none knows that nothing broke in between.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: AbstractConnection | None = None

    async def ask(self, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        """The answers to several commands in one round trip; errors of theirs are among them.

        Raises:
            RedisError, OSError, TimeoutError: Redis is away, or refuses this connection.
        """
        async with asyncio.timeout(timeout_s):
            await self.send(commands)
            return [await self._answer() for _ in commands]

    async def send(self, commands: Sequence[Command]) -> None:
        """Send without waiting for the answers; connect first if need be. Raises as `ask`."""
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
        """The answer to one command that was sent. Raises as `ask`, and the command's own error."""
        return without_errors([await self._answer()])[0]

    async def close(self) -> None:
        """Drop the connection; a command that waits on it in Redis is forgotten there."""
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


class Line:
    """`call`, `command` and `commands` wait until Redis has answered, however long that takes."""

    def __init__(self, connections: Connections, log: Logger) -> None:
        self._wire = Wire(connections)
        self._log = log
        self._turn = asyncio.Lock()

    async def call(self, call: Call) -> Any:
        """The answer of a script. Raises redis.ResponseError for what a repetition cannot mend."""
        failpoints.at(f"before-{call.step}")
        try:
            answer = (await self.commands([call.command()]))[0]
        except NoScriptError:
            answer = (await self.commands([call.command(whole=True)]))[0]
        failpoints.at(f"after-{call.step}")
        return answer

    async def command(self, *words: Any) -> Any:
        """The answer of a plain command that may be repeated."""
        return (await self.commands([words]))[0]

    async def commands(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands that may be repeated, in one round trip."""
        if not commands:
            return []
        async with self._turn:
            return await self._until_answered(commands)

    async def attempt(self, *words: Any) -> Any:
        """One command, tried once. Raises RedisError, OSError or TimeoutError."""
        async with self._turn:
            return without_errors(await self._wire.ask([words], ANSWER_TIMEOUT_S))[0]

    async def close(self) -> None:
        """Drop the connection."""
        await self._wire.close()

    async def _until_answered(self, commands: Sequence[Command]) -> list[Any]:
        failures, away_since_s = 0, time.monotonic()
        while True:
            try:
                answers = without_errors(await self._wire.ask(commands, ANSWER_TIMEOUT_S))
            except (RedisError, OSError, TimeoutError) as error:
                # Not the same connection again: after a failover it may lead to a replica.
                await self._wire.close()
                if isinstance(error, ResponseError) and not passes(error):
                    raise
                if not failures:
                    self._log.warning("redis_away", error=describe(error))
                failures += 1
                await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S)) - 1])
                continue
            if failures:
                away_s = round(time.monotonic() - away_since_s, 3)
                self._log.warning("redis_back", away_s=away_s, attempts=failures + 1)
            return answers


def without_errors(answers: list[Any]) -> list[Any]:
    """The answers, if each of them is one. Raises the first error among them."""
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise answer
    return answers


def describe(error: BaseException) -> str:
    """An error in words; a timeout has none of its own."""
    return str(error) or f"no answer in time ({type(error).__name__})"
