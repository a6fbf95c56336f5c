"""Records the history of each list every ten seconds (queue/history.py).

A point has the depths of the list, and the rate and duration of the list's chain (unknown if this
host does not serve the list).

Only the coordinator that holds a lease in Redis writes. After its end another host takes the lease
within half a minute. Two that write at the same time write the same values, because a point depends
on Redis alone. No other duty depends on the history: it has its own connection, and skips a point
if Redis is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from redis.exceptions import RedisError

from conserver.coordinator.connections import (
    AsyncConnection,
    Connections,
    describe,
    raise_first_error,
)
from conserver.queue import history, keys
from conserver.queue.history import COARSE, FINE, POINT_BYTES, Ring
from conserver.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conserver.telemetry.log import Logger

LEASE_S = 25
ANSWER_TIMEOUT_S = 5.0
LISTS_PER_ASK = 50
_NO_DURATIONS = (0.0,) * (len(metrics.ITEM_S.buckets) + 1)
_UNKNOWN = (None, None, None, None)
_FINE_PER_COARSE = COARSE.step_s // FINE.step_s

Counts = dict[tuple[bytes, str], Sequence[float]]
"""(host, chain) -> items done, dead letters, then the count of each bucket of the histogram of
durations."""


Rates = tuple[float | None, float | None, float | None, float | None]
"""done_per_s, failed_per_s, p50_s, p95_s"""


class HistoryRecorder:
    """The duty of one coordinator."""

    def __init__(
        self, connections: Connections, host: str, served: Mapping[str, str], log: Logger
    ) -> None:
        """served: the lists of this host's configuration, each with its chain."""
        self._connection = AsyncConnection(connections)
        self._host = host
        self._served = dict(served)
        self._log = log
        self._made: set[str] = set()
        """The keys of rings that are known to exist."""
        self._last: tuple[int, Counts] | None = None
        """The number of the previous point, and the counts at that time."""

    async def run(self) -> None:
        """Write points until cancelled."""
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
        """Write the present point, if this coordinator holds the lease.

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
        """Take or renew the lease. Returns whether this host holds it."""
        ours = self._host.encode()
        taken, holder = await self._ask(
            ("SET", keys.HISTORY_WRITER, self._host, "NX", "EX", LEASE_S),
            ("GET", keys.HISTORY_WRITER),
        )
        if taken is None and holder == ours:
            await self._ask(("EXPIRE", keys.HISTORY_WRITER, LEASE_S))
        return bool(holder == ours)

    async def _write_point(self, number: int) -> None:
        members, hosts = await self._ask(("SMEMBERS", keys.LISTS), ("SMEMBERS", keys.HOSTS))
        known = sorted(name.decode() for name in members)
        names = list(dict.fromkeys([*self._served, *known]))[: history.LISTS_MAX]
        asked = (("HMGET", keys.host(host.decode()), "workers", "chains") for host in hosts)
        beats = await self._ask(*asked, strict=False)
        counts, held = _read(dict(zip(hosts, beats, strict=True)))
        rates = self._rates(number, counts)
        self._last = (number, counts)
        points: dict[str, history.Values] = {}
        for at in range(0, len(names), LISTS_PER_ASK):
            points |= await self._depths(names[at : at + LISTS_PER_ASK], rates)
        sums = [sum(point[place] or 0 for point in points.values()) for place in range(3)]
        points[history.ALL_LISTS] = (*sums, float(held), *rates.get("", _UNKNOWN))
        await self._store(FINE, number, points)
        if number % _FINE_PER_COARSE == 0:
            await self._coarsen(number, list(points))

    def _rates(self, number: int, counts: Counts) -> dict[str, Rates]:
        """The rates of each chain since the previous point; "" -> those of all chains together."""
        if self._last is None or self._last[0] >= number:
            return {}
        before_number, before = self._last
        span_s = (number - before_number) * FINE.step_s
        sums: dict[str, list[float]] = {}
        for (host, chain), now in counts.items():
            was = before.get((host, chain), (0.0,) * len(now))
            # The counters of a host that was started again begin at 0.
            pairs = zip(now, was, strict=False)
            added = [one - other if one >= other else one for one, other in pairs]
            for name in {chain, ""}:
                known = sums.setdefault(name, [0.0] * len(added))
                sums[name] = [one + more for one, more in zip(known, added, strict=False)]
        return {name: _rates_of(added, span_s) for name, added in sums.items()}

    async def _depths(
        self, names: Sequence[str], rates: Mapping[str, Rates]
    ) -> dict[str, history.Values]:
        """The points of these lists: their depths from Redis, and the rates of their chains."""
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
        # Redis refuses a key of the wrong type: it counts as 0.
        numbers = [answer if isinstance(answer, int) else 0 for answer in answers]
        found: dict[str, history.Values] = {}
        for at, name in enumerate(names):
            queued, returned, suspects, parked, dead = numbers[5 * at : 5 * at + 5]
            waiting = queued + returned + suspects
            of_chain = rates.get(self._served.get(name, "-"), _UNKNOWN)
            found[name] = (waiting, parked, dead, None, *of_chain)
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
        """Create the missing rings in full length: SETRANGE would reserve twice the length."""
        new = [key for name in names if (key := ring.key(name)) not in self._made]
        lengths = await self._ask(*(("STRLEN", key) for key in new))
        for key, length in zip(new, lengths, strict=True):
            if not length:
                empty = b"\0" * (ring.points * POINT_BYTES)
                await self._ask(("SET", key, empty, "NX", "EX", ring.keep_s))
            self._made.add(key)

    async def _coarsen(self, number: int, names: Sequence[str]) -> None:
        """Write a point of the coarse ring: the mean of the fine points in its span."""
        first = number - _FINE_PER_COARSE
        # They do not wrap around: the fine ring's length is a multiple of their count.
        [(start, end)] = FINE.ranges(first, number - 1)
        commands = (("GETRANGE", FINE.key(name), start, end) for name in names)
        raws = await self._ask(*commands)
        points = {
            name: history.mean_of(history.unpack(raw, first))
            for name, raw in zip(names, raws, strict=True)
        }
        await self._store(COARSE, number // _FINE_PER_COARSE - 1, points)

    async def _ask(self, *commands: tuple[Any, ...], strict: bool = True) -> list[Any]:
        """Send commands. Returns their answers. strict: raise an error that is among them."""
        if not commands:
            return []
        answers = await self._connection.ask(list(commands), ANSWER_TIMEOUT_S)
        return raise_first_error(answers) if strict else answers


def _read(beats: Mapping[bytes, Any]) -> tuple[Counts, int]:
    """The counts of all hosts, and how many items their workers hold."""
    counts: Counts = {}
    held = 0
    for host, fields in beats.items():
        if not isinstance(fields, list):
            continue  # The key has another type.
        workers, chains = (orjson.loads(text) if text else None for text in fields)
        held += sum(int(worker.get("held", 0)) for worker in workers or ())
        if not chains:
            # These workers do not count per chain (worker/meters.py). Their totals are enough for
            # the rates of all chains together.
            for worker in workers or ():
                process = host + b":%d" % int(worker.get("pid") or 0)
                ended = (float(worker.get("done", 0)), float(worker.get("failed", 0)))
                counts[process, ""] = (*ended, *_NO_DURATIONS)
        counts |= {(host, chain): cells for chain, cells in (chains or {}).items()}
    return counts, held


def _rates_of(added: Sequence[float], span_s: float) -> Rates:
    """Items done and failed per second, and the median and 95th percentile of durations."""
    done, failed, *buckets = added
    return done / span_s, failed / span_s, _quantile(buckets, 0.5), _quantile(buckets, 0.95)


def _quantile(buckets: Sequence[float], share: float) -> float | None:
    """The quantile of a histogram, as Prometheus's histogram_quantile computes it; None without
    values.
    """
    wanted, below = sum(buckets) * share, 0.0
    bounds = metrics.ITEM_S.buckets
    lower = 0.0
    for upper, count in zip(bounds, buckets, strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below += count
        lower = upper
    return lower if wanted else None
