"""Housekeeping: periodic work for every list that any host has ever claimed from.

1. It requeues parked items that are due.
2. It deletes the reasons of old dead letters; the payloads stay in DLQ:<list>.
3. If a list waiter's BLMOVE has moved items of a list that this host does not serve to `returned`,
   it puts them back on their list.

Every coordinator does this for all lists, because a list that a reload has dropped may still have
parked items. Several hosts may do the same step: each is one bounded script call that may be
repeated. If a key of a list has the wrong type, the list is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from conserver.queue import host_calls, keys, record
from conserver.queue.wrong_type import WrongTypeError

if TYPE_CHECKING:
    from conserver.coordinator.connections import AsyncRetryingConnection
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.coordinator.list_waiters import ListWaiters
    from conserver.telemetry.log import Logger

PROMOTE_EVERY_S = 0.5
PROMOTE_MAX = 256
SWEEP_EVERY_S = 60.0
SWEEP_MAX = 256
PUT_BACK_MAX = 1000
"""Most entries of `returned` that one call looks at. A host's BLMOVE leaves at most one there."""


async def known_lists(redis: AsyncRetryingConnection) -> list[str]:
    """The names of all lists that any host has ever claimed from, sorted."""
    return sorted(member.decode() for member in await redis.command("SMEMBERS", keys.LISTS))


async def put_back(redis: AsyncRetryingConnection, names: Iterable[str], log: Logger) -> None:
    """Put the unclaimed items that a BLMOVE has moved to `returned` back on these lists."""
    for name in names:
        with contextlib.suppress(WrongTypeError):
            moved, call = 0, host_calls.put_back(name, PUT_BACK_MAX)
            # Bounded, because list waiters of other hosts may move items again.
            while moved < PUT_BACK_MAX and (some := await redis.call(call)):
                moved += some
            if moved:
                log.info("put_back_on_list", list=name, items=moved)


class Housekeeping:
    """Requeues parked items and deletes old reasons."""

    def __init__(
        self,
        redis: AsyncRetryingConnection,
        idle_workers: IdleWorkers,
        list_waiters: ListWaiters,
        served: Collection[str],
        dead_keep_s: int,
        log: Logger,
    ) -> None:
        """served: the lists of this host. dead_keep_s: how long reasons are kept; 0: for ever."""
        self._redis = redis
        self._idle_workers = idle_workers
        self._list_waiters = list_waiters
        self._served = served
        self._dead_keep_s = dead_keep_s
        self._log = log

    async def promote_forever(self) -> None:
        """Requeue parked items when they are due, until cancelled."""
        while True:
            pause_s = await self.promote()
            await asyncio.sleep(pause_s)

    async def sweep_forever(self) -> None:
        """Delete old reasons, unless they are kept for ever, until cancelled."""
        while self._dead_keep_s:
            await asyncio.sleep(SWEEP_EVERY_S * random.uniform(0.5, 1.5))
            await self.sweep()

    async def promote(self) -> float:
        """Requeue the due parked items of every list. Returns the seconds until the next time."""
        names = await self._names()
        answers = await self._redis.each(
            [
                *(("ZRANGE", keys.parked(name), 0, 0, "WITHSCORES") for name in names),
                ("TIME",),
            ]
        )
        seconds, micros = answers.pop()
        now_ms = int(seconds) * 1000 + int(micros) / 1000
        soonest_ms = PROMOTE_EVERY_S * 1000
        for name, first in zip(names, answers, strict=True):
            if not first:
                continue
            due_in_ms = float(first[1]) - now_ms
            if due_in_ms <= 0:
                self._warn_if_no_record(name, first[0])
                with contextlib.suppress(WrongTypeError):
                    await self._promote(name)
            else:
                soonest_ms = min(soonest_ms, due_in_ms)
        # A little late, because an early call does nothing; at random, to spread the hosts' calls.
        return max(soonest_ms / 1000, 0.01) * random.uniform(1.0, 1.1)

    def _warn_if_no_record(self, name: str, member: bytes) -> None:
        try:
            record.parse(member)
        except ValueError:
            what = "another program's element: it is treated as if it had been pushed to the list"
            self._log.warning("no_record", key=keys.parked(name), what=what)

    async def _promote(self, name: str) -> None:
        promoted = 0
        try:
            while some := await self._redis.call(host_calls.promote(name, PROMOTE_MAX)):
                promoted += some
        finally:  # an error may have followed calls that promoted something
            if promoted and name in self._served:
                self._list_waiters.items_returned([name])
                self._idle_workers.suspects.set()  # a parked suspect becomes a suspect again
        self._log.debug("promoted", list=name, items=promoted)

    async def sweep(self) -> None:
        """Delete the reasons of dead letters that have expired."""
        for name in await self._names():
            call = host_calls.sweep(name, self._dead_keep_s, SWEEP_MAX)
            with contextlib.suppress(WrongTypeError):
                while await self._redis.call(call):
                    continue

    async def _names(self) -> list[str]:
        """All known lists; those of this host if the set of all lists has the wrong type."""
        try:
            return await known_lists(self._redis)
        except WrongTypeError:
            return sorted(self._served)
