"""The chores: what has to be done now and then for every list that anybody has ever claimed from.

1. Parked records whose time has come go back to work.
2. Reasons of dead letters are swept when they are old; the payloads stay.
3. What a bell had moved from a list that is served no more goes back to that list.

Every coordinator does them for all lists, not only for those of its own configuration: a list that
was
dropped by a reload still has parked items. Each is one bounded script call that may come twice, so
nobody has to agree with anybody; a random wait keeps coordinators from doing them all at once. A
list
one of whose keys has the wrong type is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from conserver.queue import calls, record
from conserver.queue.wrong_type import WrongTypeError

if TYPE_CHECKING:
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.coordinator.retrying_connection import AsyncRetryingConnection
    from conserver.telemetry.log import Logger

PROMOTE_EVERY_S = 0.5
PROMOTE_MOST = 256
SWEEP_EVERY_S = 60.0
SWEEP_MOST = 256
PUT_BACK_LOOK = 1000
"""Entries of returned that one call looks at; bells have moved one per host, these suffice."""


async def known_lists(line: AsyncRetryingConnection) -> list[str]:
    """Every list that anybody has ever claimed from."""
    return sorted(member.decode() for member in await line.command("SMEMBERS", calls.LISTS))


async def put_back(line: AsyncRetryingConnection, names: Iterable[str], log: Logger) -> None:
    """Put what bells have moved, and nobody has claimed, back on its list."""
    for name in names:
        with contextlib.suppress(WrongTypeError):
            moved, call = 0, calls.put_back(name, PUT_BACK_LOOK)
            # ListWaiters of other hosts may move some of them again: it must end all the same.
            while moved < PUT_BACK_LOOK and (some := await line.call(call)):
                moved += some
            if moved:
                log.info("put_back_on_list", list=name, items=moved)


class Chores:
    """Promotes and sweeps; `served` are the lists that workers of this host claim from."""

    def __init__(
        self,
        line: AsyncRetryingConnection,
        idle_workers: IdleWorkers,
        served: Collection[str],
        dead_keep_s: int,
        log: Logger,
    ) -> None:
        self._line = line
        self._idle_workers = idle_workers
        self._served = served
        self._dead_keep_s = dead_keep_s
        self._log = log

    async def promote_for_ever(self) -> None:
        """Send parked items back to work soon after they are due."""
        while True:
            pause_s = await self.promote()
            await asyncio.sleep(pause_s)

    async def sweep_for_ever(self) -> None:
        """Forget old reasons, where they are not to be kept for ever."""
        while self._dead_keep_s:
            await asyncio.sleep(SWEEP_EVERY_S * random.uniform(0.5, 1.5))
            await self.sweep()

    async def promote(self) -> float:
        """Send what is due of every list back to work. Returns the seconds until the next look."""
        names = await self._names()
        answers = await self._line.each(
            [
                *(("ZRANGE", f"conserver:parked:{name}", 0, 0, "WITHSCORES") for name in names),
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
                self._look_at(name, first[0])
                with contextlib.suppress(WrongTypeError):
                    await self._promote(name)
            else:
                soonest_ms = min(soonest_ms, due_in_ms)
        # Early is of no use, and all at once neither: at least 10 ms, then up to a tenth more.
        return max(soonest_ms / 1000, 0.01) * random.uniform(1.0, 1.1)

    def _look_at(self, name: str, member: bytes) -> None:
        try:
            record.parse(member)
        except ValueError:
            what = "somebody else's: it goes on as if it had been pushed to the list"
            self._log.warning("no_record", key=f"conserver:parked:{name}", what=what)

    async def _promote(self, name: str) -> None:
        promoted = 0
        try:
            while some := await self._line.call(calls.promote(name, PROMOTE_MOST)):
                promoted += some
        finally:  # some may have gone before one was met that cannot go
            if promoted and name in self._served:
                self._idle_workers.ring()
                # Suspects come back from parked to suspects.
                self._idle_workers.suspects.set()
        self._log.debug("promoted", list=name, items=promoted)

    async def sweep(self) -> None:
        """Forget the reasons of dead letters that are older than they are kept."""
        for name in await self._names():
            with contextlib.suppress(WrongTypeError):
                await self._sweep(name)

    async def _sweep(self, name: str) -> None:
        while await self._line.call(calls.sweep(name, self._dead_keep_s, SWEEP_MOST)):
            continue

    async def _names(self) -> list[str]:
        """The lists to look after: our own at least, where nobody can say which there are."""
        try:
            return await known_lists(self._line)
        except WrongTypeError:
            return sorted(self._served)
