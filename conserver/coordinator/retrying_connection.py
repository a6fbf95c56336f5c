"""The coordinator's connections to Redis: bounded waits, nothing repeated but by us.

`AsyncRetryingConnection` repeats a call until it is answered, for as long as Redis is away,
because everything that
the coordinator does may be done twice. Duties share one line, each call waits for its turn. A key
of
the wrong type is told of here, whoever meets it; the duty goes on with everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, RedisError, ResponseError

from conserver import failpoints
from conserver.queue import clients as connection
from conserver.queue.retrying_connection import PAUSES_S, passes, what_now
from conserver.queue.wrong_type import Complaints, WrongTypeError, is_wrong_type, kind_of

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from conserver.queue.script import Call
    from conserver.telemetry.log import Logger

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


class AsyncRetryingConnection:
    """`call`, `command`, `commands` and `each` wait until Redis has answered, however long that
    takes. All but `each` raise WrongTypeError for a key of the wrong type.
    """

    def __init__(self, connections: Connections, log: Logger) -> None:
        self._wire = Wire(connections)
        self._log = log
        self._complaints = Complaints(log)
        self._turn = asyncio.Lock()

    async def call(self, call: Call) -> Any:
        """The answer of a script. Raises redis.ResponseError for what a repetition cannot mend."""
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
        """The answer of a plain command that may be repeated."""
        return (await self.commands([words]))[0]

    async def commands(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands that may be repeated, in one round trip."""
        answers = await self._ask(commands)
        for words, answer in zip(commands, answers, strict=True):
            if isinstance(answer, ResponseError):
                raise await self.complain(answer, words[1:2])
        return answers

    async def each(self, commands: Sequence[Command]) -> list[Any]:
        """The same, with None for the answer of a command that met a key of the wrong type."""
        answers = await self._ask(commands)
        for place, answer in enumerate(answers):
            if isinstance(answer, ResponseError):
                await self.complain(answer, commands[place][1:2])
                answers[place] = None
        return answers

    async def complain(self, error: ResponseError, keys: Sequence[str | bytes]) -> WrongTypeError:
        """Tell which keys are meant: those of `keys` that have a wrong type, or one that the error
        names.
        """
        names = [key.decode() if isinstance(key, bytes) else key for key in keys]
        _, named, rest = str(error).partition("WRONGTYPE conserver:")
        if named:
            names.append(f"conserver:{rest}")
        kinds = await self._ask([("TYPE", name) for name in names])
        for name, kind in zip(names, kinds, strict=True):
            if kind.decode() not in (kind_of(name), "none"):
                self._complaints.tell(name, kind.decode())
        return WrongTypeError(str(error))

    async def attempt(self, *words: Any) -> Any:
        """One command, tried once. Raises RedisError, OSError or TimeoutError."""
        async with self._turn:
            return without_errors(await self._wire.ask([words], ANSWER_TIMEOUT_S))[0]

    async def close(self) -> None:
        """Drop the connection."""
        await self._wire.close()

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        async with self._turn:
            return await self._until_answered(commands)

    async def _until_answered(self, commands: Sequence[Command]) -> list[Any]:
        failures, away_since_s = 0, time.monotonic()
        while True:
            try:
                answers = await self._wire.ask(commands, ANSWER_TIMEOUT_S)
                without_errors([answer for answer in answers if not _is_wrong_type(answer)])
            except (RedisError, OSError, TimeoutError) as error:
                # Not the same connection again: after a failover it may lead to a replica.
                await self._wire.close()
                if isinstance(error, ResponseError) and not passes(error):
                    raise
                if not failures:
                    self._log.warning("redis_away", error=describe(error), what=what_now(error))
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


def _is_wrong_type(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and is_wrong_type(answer)


def describe(error: BaseException) -> str:
    """An error in words; a timeout has none of its own."""
    return str(error) or f"no answer in time ({type(error).__name__})"
