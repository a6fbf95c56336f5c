"""One connection to Redis that all requests of this process share.

The commands of one turn of the event loop are sent together; Redis answers in the same order. So a
request needs no connection of its own from a pool. Use it for short commands only: a large one
would delay those behind it.

If the connection breaks, or a command has no answer within TIMEOUT_S, all unanswered commands fail.
The next command opens a new connection. No command is repeated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from conserver.queue.retrying_connection import pack

if TYPE_CHECKING:
    import redis.asyncio

TIMEOUT_S = 5.0


class Multiplexed:
    """The shared connection, for one event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """client: the connection is made by its pool, which must set no timeout for reads."""
        self._pool = client.connection_pool
        self._client = client
        self._connection: Any = None
        self._connecting = asyncio.Lock()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._reader: asyncio.Task[None] | None = None

    async def execute(self, *commands: Sequence[Any]) -> list[Any]:
        """The answers of some commands, in order. An error of Redis is returned as an exception.

        Raises:
            redis.ConnectionError, redis.TimeoutError: Redis may have executed any of the commands.
        """
        from redis.exceptions import TimeoutError as RedisTimeoutError

        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._connection is None:
                    await self._connect()
                loop = asyncio.get_running_loop()
                if not self._unsent:
                    loop.call_soon(self._send)
                answers: list[asyncio.Future[Any]] = []
                for command in commands:
                    self._unsent.append(pack(command))
                    answers.append(loop.create_future())
                self._waiting.extend(answers)
                return [await answer for answer in answers]
        except TimeoutError:
            self._break(RedisTimeoutError("Redis leaves a command unanswered"))
            raise RedisTimeoutError("Redis does not answer in time") from None

    async def close(self) -> None:
        """Close the connection."""
        from redis.exceptions import ConnectionError as RedisConnectionError

        self._break(RedisConnectionError("closed"))
        await self._client.aclose()

    async def _connect(self) -> None:
        async with self._connecting:
            if self._connection is not None:
                return
            connection: Any = self._pool.make_connection()
            await connection.connect()
            self._connection = connection
            self._reader = asyncio.create_task(self._read(connection), name="redis-answers")

    def _send(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        if self._connection is not None:
            self._connection._writer.write(data)

    async def _read(self, connection: Any) -> None:
        """Hand each answer to the command that waits for it, until the connection breaks."""
        from redis.exceptions import ConnectionError as RedisConnectionError
        from redis.exceptions import RedisError, ResponseError

        try:
            while True:
                answer: Any
                try:
                    answer = await connection.read_response(disable_decoding=True)
                except ResponseError as refusal:
                    answer = refusal
                future = self._waiting.popleft()
                if not future.done():  # The request may have been cancelled.
                    future.set_result(answer)
        except (RedisError, OSError) as error:
            self._break(RedisConnectionError(str(error)))

    def _break(self, error: Exception) -> None:
        """Fail all commands that wait. The next command connects again."""
        connection, self._connection = self._connection, None
        reader, self._reader = self._reader, None
        waiting, self._waiting = self._waiting, deque()
        self._unsent = []
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # Marks it as retrieved, in case no request awaits it.
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
        if connection is not None and connection._writer is not None:
            connection._writer.close()
