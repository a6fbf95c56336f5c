"""History: writes down every ten seconds how much waits, is parked and dead, and how much is done.

One coordinator of all hosts writes, the one that holds a lease in Redis; when it is gone, another
goes on within half a minute. What is written at a moment depends on Redis alone, so two that write
at the same time write the same, and nothing counts twice. As for ages.py, nothing depends on it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from redis.exceptions import RedisError

from conserver.coordinator.retrying_connection import (
    AsyncConnection,
    Connections,
    describe,
    raise_first_error,
)
from conserver.queue import history, keys
from conserver.queue.history import COARSE, FINE, POINT_BYTES, Ring

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from conserver.telemetry.log import Logger

LEASE_S = 25
ANSWER_TIMEOUT_S = 5.0
LISTS_PER_ASK = 50
_FINE_PER_COARSE = COARSE.step_s // FINE.step_s

Counts = dict[tuple[bytes, int], tuple[int, int]]
"""Of each worker, by its host and pid: items done and failed."""


class History:
    """The duty of one coordinator."""

    def __init__(
        self, connections: Connections, host: str, served: Iterable[str], log: Logger
    ) -> None:
        self._connection = AsyncConnection(connections)
        self._host = host
        self._served = list(served)
        self._log = log
        self._made: set[str] = set()
        """The rings that are known to be there."""
        self._last: tuple[int, Counts] | None = None
        """The number of the point before, and the counts then."""

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                pause_s = float(FINE.step_s)
                try:
                    pause_s = await self.write()
                except (RedisError, OSError, TimeoutError) as error:
                    await self._connection.close()
                    self._last = None
                    self._log.debug("history_not_written", error=describe(error))
                await asyncio.sleep(pause_s)
        finally:
            await self._connection.close()

    async def write(self) -> float:
        """Write the present point, if this host is the one that writes.

        Returns:
            The seconds until the next point is due.

        Raises:
            RedisError, OSError, TimeoutError
        """
        [(seconds, micros)] = await self._ask(("TIME",))
        now_s = int(seconds) + int(micros) / 1e6
        number = int(now_s) // FINE.step_s
        if await self._may_write():
            await self._write_point(number)
        else:
            self._last = None
        return (number + 1) * FINE.step_s - now_s + 0.05

    async def _may_write(self) -> bool:
        """Take or renew the lease."""
        ours = self._host.encode()
        taken, holder = await self._ask(
            ("SET", history.WRITER, self._host, "NX", "EX", LEASE_S), ("GET", history.WRITER)
        )
        if taken is None and holder == ours:
            await self._ask(("EXPIRE", history.WRITER, LEASE_S))
        return bool(holder == ours)

    async def _write_point(self, number: int) -> None:
        members, hosts = await self._ask(("SMEMBERS", keys.LISTS), ("SMEMBERS", keys.HOSTS))
        known = sorted(name.decode() for name in members)
        names = list(dict.fromkeys([*self._served, *known]))[: history.LISTS_MAX]
        beats = (("HGET", keys.host(host.decode()), "workers") for host in hosts)
        workers = await self._ask(*beats, strict=False)
        counts, held = _read(dict(zip(hosts, workers, strict=True)))
        rates = self._rates(number, counts)
        self._last = (number, counts)
        points: dict[str, history.Values] = {}
        for at in range(0, len(names), LISTS_PER_ASK):
            points |= await self._depths(names[at : at + LISTS_PER_ASK])
        sums = [sum(point[place] or 0 for point in points.values()) for place in range(3)]
        points[""] = (*sums, float(held), *rates, None, None)
        await self._store(FINE, number, points)
        if number % _FINE_PER_COARSE == 0:
            await self._coarsen(number, list(points))

    def _rates(self, number: int, counts: Counts) -> tuple[float | None, float | None]:
        """Items done and failed per second since the point before; a worker counts from 0."""
        if self._last is None or self._last[0] >= number:
            return None, None
        before_number, before = self._last
        span_s = (number - before_number) * FINE.step_s
        done = failed = 0
        for worker, (now_done, now_failed) in counts.items():
            was_done, was_failed = before.get(worker, (0, 0))
            done += max(now_done - was_done, 0)
            failed += max(now_failed - was_failed, 0)
        return done / span_s, failed / span_s

    async def _depths(self, names: Sequence[str]) -> dict[str, history.Values]:
        commands = [
            command
            for name in names
            for command in (
                ("LLEN", name),
                ("LLEN", keys.returned(name)),
                ("LLEN", keys.suspects(name)),
                ("ZCARD", keys.parked(name)),
                ("LLEN", keys.dead_letters(name)),
            )
        ]
        answers = await self._ask(*commands, strict=False)
        # A key of another type is refused; its list shows what is known.
        numbers = [answer if isinstance(answer, int) else 0 for answer in answers]
        found: dict[str, history.Values] = {}
        for at, name in enumerate(names):
            queued, returned, suspects, parked, dead = numbers[5 * at : 5 * at + 5]
            waiting = queued + returned + suspects
            found[name] = (waiting, parked, dead, None, None, None, None, None)
        return found

    async def _store(self, ring: Ring, number: int, points: dict[str, history.Values]) -> None:
        await self._make(ring, points)
        commands: list[tuple[Any, ...]] = []
        for name, values in points.items():
            key = ring.key(name)
            commands.append(("SETRANGE", key, ring.offset(number), history.pack(number, values)))
            commands.append(("EXPIRE", key, ring.keep_s))
        await self._ask(*commands)

    async def _make(self, ring: Ring, names: Iterable[str]) -> None:
        """Make the rings that are not there, at once as long as they will be: a string that grows
        by SETRANGE takes twice its length.
        """
        new = [key for name in names if (key := ring.key(name)) not in self._made]
        lengths = await self._ask(*(("STRLEN", key) for key in new))
        for key, length in zip(new, lengths, strict=True):
            if not length:
                empty = b"\0" * (ring.points * POINT_BYTES)
                await self._ask(("SET", key, empty, "NX", "EX", ring.keep_s))
            self._made.add(key)

    async def _coarsen(self, number: int, names: Sequence[str]) -> None:
        """Write the point of the coarse ring that has just ended, from those of the fine one."""
        first = number - _FINE_PER_COARSE
        # Such a part of the fine ring does not wrap: its length is a multiple of this one's.
        [(start, end)] = FINE.ranges(first, number - 1)
        commands = (("GETRANGE", FINE.key(name), start, end) for name in names)
        raws = await self._ask(*commands)
        points = {
            name: history.mean_of(history.unpack(raw, first))
            for name, raw in zip(names, raws, strict=True)
        }
        await self._store(COARSE, number // _FINE_PER_COARSE - 1, points)

    async def _ask(self, *commands: tuple[Any, ...], strict: bool = True) -> list[Any]:
        """The answers. strict: a refused command is an error; else it is among the answers."""
        if not commands:
            return []
        answers = await self._connection.ask(list(commands), ANSWER_TIMEOUT_S)
        return raise_first_error(answers) if strict else answers


def _read(hosts: dict[bytes, Any]) -> tuple[Counts, int]:
    """The counts of all workers, and how many items they hold."""
    counts: Counts = {}
    held = 0
    for host, text in hosts.items():
        workers = orjson.loads(text) if isinstance(text, bytes) else []
        for worker in workers:
            key = (host, int(worker.get("pid") or 0))
            counts[key] = (int(worker.get("done", 0)), int(worker.get("failed", 0)))
            held += int(worker.get("held", 0))
    return counts, held
