"""Detects that Redis has lost data: that it came back empty, or in an older state.

Each heartbeat replaces the last one in Redis. If the last one is missing there, or an older one is
found, and no other host has declared this host dead, then Redis has lost data: it was restarted
without persistence, flushed, or restored from an older snapshot, or a lagging replica has taken
over. Only producers can repair that, by pushing again. So the loss is logged as an error, and the
next heartbeats tell it to `conserver status`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from conserver.queue import keys

if TYPE_CHECKING:
    from conserver.coordinator.connections import AsyncRetryingConnection
    from conserver.telemetry.log import Logger

_PLACES = ("waiting", "parked", "dead")
_DAY_S = 86_400.0


class DataLoss:
    """Compares the value that each heartbeat replaces with the value that this host wrote last.

    lost: the field of that name of the host's status (host_status.py); empty before the first loss.
    """

    def __init__(
        self,
        redis: AsyncRetryingConnection,
        host: str,
        served: Sequence[str],
        lease_s: float,
        log: Logger,
    ) -> None:
        self._redis = redis
        self._host = host
        self._served = served
        self._lease_s = lease_s
        self._log = log
        self.lost: dict[str, Any] = {}
        self._last = ""  # the last heartbeat that Redis has answered
        self._last_s = 0.0
        # The error tells what was counted before the last heartbeat: the later counts may have
        # followed the loss.
        self._counts: dict[str, int] = {}
        self._counts_before_last: dict[str, int] = {}

    @property
    def fields(self) -> dict[str, bytes]:
        """What the heartbeats write into the host's status."""
        return {"lost": orjson.dumps(self.lost)} if self.lost else {}

    async def look(
        self, beat: str, before: str, unknown: bool, consumers: Collection[str], in_flight: int
    ) -> None:
        """Log `redis_lost_data` if Redis has lost data.

        Args:
            beat: the heartbeat that Redis has answered just now.
            before: the heartbeat that it replaced in Redis; "" for none.
            unknown: whether the host was missing in conserver:hosts.
            consumers: the living consumers of this host.
            in_flight: how many items these consumers hold.
        """
        how, last, last_s = "", self._last, self._last_s
        self._last, self._last_s = beat, time.monotonic()
        if last and not before and unknown:
            # Another host may delete this host, but only after a lease, and leaves a
            # conserver:gone key for each consumer.
            if self._last_s - last_s < self._lease_s or not await self._was_reaped(consumers):
                how = "it came back empty: a restart without persistence, a FLUSHALL"
        elif last and before and (back_s := _back_s(last, before)) > 1:
            how = f"it went back by {back_s:.0f} s: an older snapshot, a replica that lagged"
        if how:
            what = "push again what producers still have; `conserver doctor` says what it keeps"
            known = {**(self._counts_before_last or self._counts), "in_flight": in_flight}
            self._log.error("redis_lost_data", how=how, **known, what=what)
            lost = {"at": round(time.time(), 3), "how": how, "known": known}
            # A later loss has few items to count: Redis is empty after the first.
            greater = not self.lost or _held(lost) >= _held(self.lost)
            if greater or lost["at"] - self.lost["at"] > _DAY_S:
                self.lost = lost
        self._counts_before_last, self._counts = self._counts, await self._count()

    async def _was_reaped(self, consumers: Collection[str]) -> bool:
        """Whether another host may have declared this host dead; True if unknown."""
        marks = await self._redis.each([("EXISTS", keys.gone(one)) for one in consumers])
        return not marks or any(marks)

    async def _count(self) -> dict[str, int]:
        """Count the waiting, parked and dead items in the lists that this host serves."""
        commands: list[tuple[str, str]] = []
        for name in self._served:
            commands += [("LLEN", name), ("LLEN", keys.returned(name))]
            commands += [("LLEN", keys.suspects(name))]
            commands += [("ZCARD", keys.parked(name)), ("LLEN", keys.dead_letters(name))]
        answers = [answer or 0 for answer in await self._redis.each(commands)]
        waiting = sum(sum(answers[place::5]) for place in range(3))
        return dict(zip(_PLACES, (waiting, sum(answers[3::5]), sum(answers[4::5])), strict=True))


def _held(lost: dict[str, Any]) -> int:
    return sum(lost["known"].values())


def _back_s(written: str, found: str) -> float:
    """By how many seconds a heartbeat is older than the one that was written."""
    try:
        return (float(written.partition(".")[0]) - float(found.partition(".")[0])) / 1000
    except ValueError:  # Somebody has edited the value.
        return 0.0
