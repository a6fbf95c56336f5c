"""Suspects: records that may have killed a worker, and must each run alone.

Only a worker that holds nothing may claim one, and a host runs one at a time. On a busy host no
worker ever holds nothing, so while suspects wait there the coordinator orders one worker to run
itself
empty, again and again, until one has claimed a suspect; the other workers go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from conserver.process.shared_status import State
from conserver.queue import calls

if TYPE_CHECKING:
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.coordinator.retrying_connection import AsyncRetryingConnection
    from conserver.process.shared_status import SharedStatus
    from conserver.telemetry.log import Logger

LOOK_EVERY_S = 1.0
"""How often suspects are looked for, and the order to a worker is repeated."""


def choose(held: Mapping[int, int], ordered: int | None) -> int | None:
    """Which worker to order.

    Args:
        held: how many items each working worker holds, by slot.
        ordered: the one that was ordered before: it is on its way.

    Returns:
        Its slot; None if one holds nothing already, or none works.
    """
    if not held or not all(held.values()):
        return None
    if ordered in held:
        return ordered
    return min(held, key=lambda slot: (held[slot], slot))


class Suspects:
    """Sees to it that suspects of the lists that this host serves are claimed."""

    def __init__(
        self,
        line: AsyncRetryingConnection,
        host: str,
        names: Sequence[str],
        statuses: Sequence[SharedStatus],
        idle_workers: IdleWorkers,
        log: Logger,
    ) -> None:
        self._line = line
        self._host = host
        self._names = names
        self._statuses = statuses
        self._idle_workers = idle_workers
        self._log = log
        self._ordered: int | None = None

    async def run(self) -> None:
        """Look every second, and when a worker has met some, until cancelled."""
        while True:
            self._idle_workers.suspects.clear()
            if await self._wait_for_us():
                self._order()
            else:
                self._ordered = None
            # Never sooner than the order can have had an effect: workers repeat their word.
            await asyncio.sleep(LOOK_EVERY_S / 10)
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._idle_workers.suspects.wait()
            except TimeoutError:
                continue

    async def _wait_for_us(self) -> bool:
        """Whether suspects wait that our workers may claim, and none of them runs one."""
        paused, runs, *waiting = await self._line.each(
            [
                ("HKEYS", calls.CONTROL),
                ("HGET", calls.host_key(self._host), "suspect"),
                *(("LLEN", f"conserver:suspects:{name}") for name in self._names),
            ]
        )
        stopped = {key.decode() for key in paused or ()}
        counts = zip(self._names, waiting, strict=True)
        if not any(count and f"paused:{name}" not in stopped for name, count in counts):
            return False
        if not runs:
            return True
        consumer, _, token = runs.decode().partition(" ")
        [held] = await self._line.each([("HEXISTS", calls.inflight_key(consumer), token)])
        return not held

    def _order(self) -> None:
        views = {slot: status.read() for slot, status in enumerate(self._statuses, 1)}
        held = {
            slot: len(view.items)
            for slot, view in views.items()
            if view.state in (State.IDLE, State.WORKING)
        }
        slot = choose(held, self._ordered)
        if slot is None:
            # A worker that holds nothing gets a suspect with its next claim: let it be now.
            self._idle_workers.ring()
        else:
            if slot != self._ordered:
                self._log.info("emptied_for_suspect", worker=slot, held=held[slot])
            self._idle_workers.order_empty(slot)
        self._ordered = slot
