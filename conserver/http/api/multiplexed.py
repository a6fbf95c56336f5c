"""One connection to Redis that all requests share.

Commands are written as they come, those of one turn of the event loop together, and answers come in
the same order. A command takes no connection out of a pool, and however many requests there are,
Redis sees one connection. It is for short commands: what is large would hold up the others.

A connection that breaks, or leaves a command unanswered for TIMEOUT_S, fails all commands that
wait; the next command makes a new one. No command is repeated.
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
    """The connection. Its methods are for one event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """client: of whose pool the connection is made; its reads may block for ever."""
        self._pool = client.connection_pool
        self._client = client
        self._connection: Any = None
        self._connecting = asyncio.Lock()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._reader: asyncio.Task[None] | None = None

    async def execute(self, *commands: Sequence[Any]) -> list[Any]:
        """The answers of some commands, in their order; a refusal is among them as an exception.

        Raises:
            redis.ConnectionError: also redis.TimeoutError: nothing is known of any of them.
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
        """End the connection."""
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
        """Give each answer to who waits for it, until the connection breaks."""
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
                if not future.done():  # Whoever asked may have gone.
                    future.set_result(answer)
        except (RedisError, OSError) as error:
            self._break(RedisConnectionError(str(error)))

    def _break(self, error: Exception) -> None:
        """Fail whoever waits; the next command connects again."""
        connection, self._connection = self._connection, None
        reader, self._reader = self._reader, None
        waiting, self._waiting = self._waiting, deque()
        self._unsent = []
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # It has been seen, also where nobody awaits it any more.
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
        if connection is not None and connection._writer is not None:
            connection._writer.close()
