"""Samples the age of the oldest waiting item of each list, every few seconds.

Each call of queue/waiting.lua stores a mark in Redis. `conserver status`, the API and the metrics
find the age from these marks, even if no worker claims. No other duty depends on this one: it has
its own connection, and skips a look if Redis is away or refuses.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from redis.exceptions import NoScriptError, RedisError, ResponseError

from conserver.coordinator.connections import AsyncConnection, Connections, describe
from conserver.queue import host_calls, keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conserver.queue.script import Call
    from conserver.telemetry.log import Logger

LOOK_EVERY_S = 5.0
LISTS_PER_CALL = 64
ANSWER_TIMEOUT_S = 5.0


class Ages:
    """Samples all lists that were ever claimed from, and the lists that this host serves."""

    def __init__(self, connections: Connections, served: Iterable[str], log: Logger) -> None:
        self._connection = AsyncConnection(connections)
        self._served = set(served)
        self._log = log
        self.redis_up: bool | None = None
        """Whether Redis answered the last look; None before the first."""
        self.round_trip_s: float | None = None
        """How long Redis took for its last answer to a short command."""

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                try:
                    await self.look()
                    self.redis_up = True
                except (RedisError, OSError, TimeoutError) as error:
                    self.redis_up = isinstance(error, ResponseError)  # a refusal is an answer, too
                    await self._connection.close()
                    self._log.debug("ages_unknown", error=describe(error))
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await self._connection.close()

    async def look(self) -> None:
        """Look at every list once. Raises RedisError, OSError, TimeoutError."""
        began_s = time.monotonic()
        members = await self._ask("SMEMBERS", keys.LISTS)
        self.round_trip_s = time.monotonic() - began_s
        names = sorted({member.decode() for member in members} | self._served)
        for first in range(0, len(names), LISTS_PER_CALL):
            # The script takes no sample if another host has just taken one.
            every_ms = int(LOOK_EVERY_S * 900)
            await self._call(host_calls.waiting(names[first : first + LISTS_PER_CALL], every_ms))

    async def _call(self, call: Call) -> None:
        try:
            await self._ask(*call.command())
        except NoScriptError:
            await self._ask(*call.command(whole=True))

    async def _ask(self, *words: object) -> list[bytes]:
        [answer] = await self._connection.ask([words], ANSWER_TIMEOUT_S)
        if isinstance(answer, ResponseError):
            raise answer
        found: list[bytes] = list(answer)
        return found
